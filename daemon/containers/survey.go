package containers

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/rpc"
)

// Records are surveyed every surveyInterval; and every busyInterval for busyFor
// after one of their directories changed, because an engine writes a record in
// several steps.
const (
	surveyInterval = 5 * time.Second
	busyInterval   = 50 * time.Millisecond
	busyFor        = 2 * time.Second
)

// Follower reports what engines do; *engines.Client does.
type Follower interface {
	Follow(ctx context.Context, event func(engines.Event))
}

// survey measures containers as they come, and logs when they end. A container
// that calls before the survey sees it is measured then.
type survey struct {
	m *Manager

	// running are the instances that are known to run, each counted as one of its
	// own users.
	running map[instanceKey]*Instance

	exits *exits
}

// Survey measures and follows containers until ctx ends.
func (m *Manager) Survey(ctx context.Context, engine Follower) {
	s := &survey{m: m, running: make(map[instanceKey]*Instance), exits: newExits(m)}
	defer s.releaseAll()
	var following sync.WaitGroup
	defer following.Wait()
	reported := make(chan struct{}, 1)
	following.Go(func() {
		engine.Follow(ctx, func(e engines.Event) {
			s.exits.report(e)
			select {
			case reported <- struct{}{}:
			default:
			}
		})
	})
	w := watch{m: m, stop: func() {}}
	defer func() { w.stop() }()
	for busy := time.Now(); ; {
		w.follow(ctx, m.Records())
		s.once(ctx)
		wait := surveyInterval
		if len(s.exits.missing) > 0 {
			wait = goneFor
		}
		if time.Now().Before(busy) {
			wait = busyInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-reported:
			busy = time.Now().Add(busyFor)
		case _, open := <-w.changes:
			if !open {
				w.changes = nil
			}
			busy = time.Now().Add(busyFor)
			pause(ctx, busyInterval) // many changes come at once
		case <-time.After(wait):
		}
	}
}

// watch is the watch on the directories of the records in force.
type watch struct {
	m       *Manager
	store   *records.Store
	changes <-chan struct{} // nil: not watched
	stop    context.CancelFunc
}

// follow watches a store in place of the one before: a reload makes another.
func (w *watch) follow(ctx context.Context, store *records.Store) {
	if store == w.store {
		return
	}
	w.stop()
	ctx, w.stop = context.WithCancel(ctx)
	w.store = store
	var err error
	if w.changes, err = store.Watch(ctx); err != nil {
		w.m.Log.Warn("starts of containers are noticed late: their records can't be watched", "error", err)
	}
}

// once measures what runs and isn't measured yet, and logs what ended.
func (s *survey) once(ctx context.Context) {
	m := s.m
	if err := m.Ledger.FlushMissed(ctx); err != nil {
		m.Log.Debug("a gap could not be logged yet", "error", err)
	}
	open := m.Ledger.Open()
	list, err := m.Records().List(ctx)
	if err != nil {
		m.Log.Warn("records can't be listed", "error", err)
		return
	}
	seen, owners := make(map[instanceKey]bool, len(list)), make(map[string]bool, len(list))
	doubtful := make(map[string]bool) // by name: it lives, and can't be checked now
	for _, rec := range list {
		if ctx.Err() != nil {
			return
		}
		if rec.Err != nil || rec.InitPID == 0 || rec.CgroupPath == "" {
			continue
		}
		c := PeerContainer(rec)
		r, err := m.Peers.Running(ctx, c)
		if err != nil {
			doubtful[rec.Name] = lives(rec)
			continue // stopped, or starting: the next survey sees
		}
		key := instanceKey{c.Owner(r.CgroupOwner), r.CgroupInode}
		seen[key], owners[key.owner] = true, true
		i := s.running[key]
		if i == nil {
			i = m.Use(c, r.CgroupInode, r.CgroupOwner)
			s.running[key] = i
			m.starts.note(i.Owner, rec.InstanceID(0), i.inode, i.first)
		}
		if s.isDue(i) {
			s.measure(ctx, i)
		}
	}
	s.users(ctx, open, seen, owners)
	for key, i := range s.running {
		if !seen[key] && !doubtful[i.Container.Name] {
			if !s.ended(ctx, i) {
				continue // the next survey tries again
			}
			delete(s.running, key)
			m.Release(i)
		}
	}
	s.exits.survey(ctx, open, list, owners)
}

// isDue reports whether an instance is measured though it hasn't called.
func (s *survey) isDue(i *Instance) bool {
	return !s.m.starts.loop(i.Owner, time.Now()) || time.Since(i.first) > loopStay
}

func (s *survey) measure(ctx context.Context, i *Instance) {
	_, err := s.m.Facts(ctx, i, func(ctx context.Context) error { return s.m.CheckRuns(ctx, i) })
	var wire *rpc.Error
	if err != nil && !(errors.As(err, &wire) && wire.Code == rpc.CodeNotReady) {
		s.m.Log.Debug("container not measured", "container", i.Owner, "error", err)
	}
}

// ended logs the end of an instance whose launch is logged; false: the next survey
// must try again.
func (s *survey) ended(ctx context.Context, i *Instance) bool {
	if s.m.lock(ctx, i) != nil {
		return false
	}
	defer i.measuring.Release(1)
	f := i.facts.Load()
	// Without facts the log may have its launch: then it is open there, and the
	// next survey finds it ended.
	return f == nil || s.exits.log(ctx, i.Owner, f.Instance)
}

// users watches instances of users' engines, whose records are not listed. They
// are found when they call; those that called a former run of the daemon are found
// by the cgroup in the log. owners gets those that run.
func (s *survey) users(ctx context.Context, open map[string]ledger.Launched, seen map[instanceKey]bool, owners map[string]bool) {
	for _, i := range s.m.instances.takeUnwatched() {
		s.watch(i)
	}
	for owner, launched := range open {
		if !strings.Contains(owner, "/") || owners[owner] || s.watches(owner, launched.Instance) {
			continue
		}
		i, err := s.m.find(ctx, owner, launched)
		if i != nil {
			s.watch(i)
		}
		owners[owner] = err != nil // the next survey tries again
	}
	for key, i := range s.running {
		if i.Container.UID != 0 && s.m.CheckRuns(ctx, i) == nil {
			seen[key], owners[key.owner] = true, true
		}
	}
}

// watch takes over an instance that is counted as used by the survey.
func (s *survey) watch(i *Instance) {
	key := instanceKey{i.Owner, i.inode}
	if s.running[key] == nil {
		s.running[key] = i
	} else {
		s.m.Release(i)
	}
}

// watches reports whether the instance of a launch is watched.
func (s *survey) watches(owner, launched string) bool {
	_, hex, _ := strings.Cut(launched, "/")
	inode, err := strconv.ParseUint(hex, 16, 64)
	return err == nil && s.running[instanceKey{owner, inode}] != nil
}

func (s *survey) releaseAll() {
	for _, i := range s.running {
		s.m.Release(i)
	}
}

// errNoCgroup says that an older daemon did not log the cgroup of a launch.
var errNoCgroup = errors.New("the log doesn't hold the cgroup")

// find returns the instance of a launch that a former run of the daemon logged,
// counted as used; nil if it doesn't run any more. An error says that nobody can
// tell.
func (m *Manager) find(ctx context.Context, owner string, launched ledger.Launched) (*Instance, error) {
	if launched.Cgroup == "" {
		return nil, errNoCgroup
	}
	rec, there, err := m.Records().Declared(ctx, "", launched.Cgroup)
	if err != nil || !there {
		return nil, err
	}
	c := PeerContainer(rec)
	r, err := m.Peers.Running(ctx, c)
	if err != nil {
		if !lives(rec) {
			err = nil
		}
		return nil, err
	}
	if c.Owner(r.CgroupOwner) != owner || rec.InstanceID(r.CgroupInode) != launched.Instance {
		return nil, nil
	}
	return m.Use(c, r.CgroupInode, r.CgroupOwner), nil
}
