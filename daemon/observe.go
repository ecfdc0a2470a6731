package daemon

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/rpc"
)

// Records are looked through every surveyInterval; and for as long as busyFor
// every busyInterval after a directory of theirs changed, for an engine writes
// a record in several steps.
const (
	surveyInterval = 5 * time.Second
	busyInterval   = 50 * time.Millisecond
	busyFor        = 2 * time.Second
)

// observer measures containers as they come, and notes when they end. Callers
// that are quicker are measured when they call.
type observer struct {
	d *Daemon

	// running are the instances that are known to run, each counted as one
	// of its own users.
	running map[instanceKey]*instance

	ends *ends
}

// observe runs until ctx ends.
func (d *Daemon) observe(ctx context.Context) {
	o := &observer{d: d, running: make(map[instanceKey]*instance), ends: newEnds(d)}
	defer o.releaseAll()
	var following sync.WaitGroup
	defer following.Wait()
	told := make(chan struct{}, 1)
	following.Go(func() {
		d.engine.Follow(ctx, func(h engines.Event) {
			o.ends.told(h)
			select {
			case told <- struct{}{}:
			default:
			}
		})
	})
	changes, err := d.store().Watch(ctx)
	if err != nil {
		d.log.Warn("starts of containers are noticed late: their records can't be watched", "error", err)
	}
	for busy := time.Now(); ; {
		o.survey(ctx)
		wait := surveyInterval
		if len(o.ends.missing) > 0 {
			wait = goneFor
		}
		if time.Now().Before(busy) {
			wait = busyInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-told:
			busy = time.Now().Add(busyFor)
		case _, open := <-changes:
			if !open {
				changes = nil
			}
			busy = time.Now().Add(busyFor)
			pause(ctx, busyInterval) // many changes come at once
		case <-time.After(wait):
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// survey measures what runs and isn't measured yet, and notes what ended.
func (o *observer) survey(ctx context.Context) {
	if err := o.d.ledger.FlushMissed(ctx); err != nil {
		o.d.log.Debug("what was missed is not logged yet", "error", err)
	}
	open := o.d.ledger.Open()
	records, err := o.d.store().List(ctx)
	if err != nil {
		o.d.log.Warn("records can't be listed", "error", err)
		return
	}
	seen, owners := make(map[instanceKey]bool, len(records)), make(map[string]bool, len(records))
	doubtful := make(map[string]bool) // by id: it lives, and can't be looked at now
	for _, rec := range records {
		if ctx.Err() != nil {
			return
		}
		if rec.Err != nil || rec.InitPID == 0 || rec.CgroupPath == "" {
			continue
		}
		c := containerOf(rec)
		r, err := o.d.peers.Running(ctx, c)
		if err != nil {
			doubtful[rec.ID] = lives(rec)
			continue // stopped, or starting: the next survey sees
		}
		key := instanceKey{ownerName(c, r.CgroupOwner), r.Instance}
		seen[key], owners[key.owner] = true, true
		i := o.running[key]
		if i == nil {
			i = o.d.instances.use(c, r.Instance, r.CgroupOwner)
			o.running[key] = i
			o.d.starts.note(i.owner, instanceID(rec, 0), i.inode, i.first)
		}
		if o.worth(i) {
			o.measure(ctx, i)
		}
	}
	o.users(ctx, open, seen, owners)
	for key, i := range o.running {
		if !seen[key] && !doubtful[i.container.ID] {
			if !o.ended(ctx, i) {
				continue // the next survey tries again
			}
			delete(o.running, key)
			o.d.instances.release(i)
		}
	}
	o.ends.look(ctx, open, records, owners)
}

// worth says whether an instance is to be measured though it hasn't called.
func (o *observer) worth(i *instance) bool {
	return !o.d.starts.loop(i.owner, time.Now()) || time.Since(i.first) > loopStay
}

func (o *observer) measure(ctx context.Context, i *instance) {
	_, err := o.d.measured(ctx, i, func(ctx context.Context) error { return o.d.stillRuns(ctx, i) })
	var wire *rpc.Error
	if err != nil && !(errors.As(err, &wire) && wire.Code == rpc.CodeNotReady) {
		o.d.log.Debug("container not measured", "container", i.owner, "error", err)
	}
}

// ended logs the end of an instance whose launch is logged, false where it is
// to be tried again.
func (o *observer) ended(ctx context.Context, i *instance) bool {
	if o.d.enter(ctx, i) != nil {
		return false
	}
	defer i.measuring.give()
	f := i.facts.Load()
	// Without facts the log may have its launch: then it is open there, and the
	// next survey finds it over.
	return f == nil || o.ends.exit(ctx, i.owner, f.instance)
}

// users sees to instances of users' engines, whose records are not listed: they
// are met when they call, and looked after from then on; those that called a
// daemon before this one, by where they ran. Owners gets those that run.
func (o *observer) users(ctx context.Context, open map[string]ledger.Launched, seen map[instanceKey]bool, owners map[string]bool) {
	for _, i := range o.d.instances.kept() {
		o.lookAfter(i)
	}
	for owner, launched := range open {
		if !strings.Contains(owner, "/") || owners[owner] || o.known(owner, launched.Instance) {
			continue
		}
		i, err := o.d.refound(ctx, owner, launched)
		if i != nil {
			o.lookAfter(i)
		}
		owners[owner] = err != nil // the next survey tries again
	}
	for key, i := range o.running {
		if i.container.UID != 0 && o.d.stillRuns(ctx, i) == nil {
			seen[key], owners[key.owner] = true, true
		}
	}
}

// lookAfter takes over an instance that somebody counted as used for it.
func (o *observer) lookAfter(i *instance) {
	key := instanceKey{i.owner, i.inode}
	if o.running[key] == nil {
		o.running[key] = i
	} else {
		o.d.instances.release(i)
	}
}

// known says that the instance of a launch is looked after.
func (o *observer) known(owner, launched string) bool {
	_, hex, _ := strings.Cut(launched, "/")
	inode, err := strconv.ParseUint(hex, 16, 64)
	return err == nil && o.running[instanceKey{owner, inode}] != nil
}

// refound is the instance of a launch, used once, that a former run of the daemon
// logged; nil where it runs no more. An error says that this can't be told.
func (d *Daemon) refound(ctx context.Context, owner string, launched ledger.Launched) (*instance, error) {
	if launched.Cgroup == "" {
		return nil, errNoCgroup
	}
	rec, there, err := d.store().Declared(ctx, launched.Cgroup)
	if err != nil || !there {
		return nil, err
	}
	c := containerOf(rec)
	r, err := d.peers.Running(ctx, c)
	if err != nil {
		if !lives(rec) {
			err = nil
		}
		return nil, err
	}
	if ownerName(c, r.CgroupOwner) != owner || instanceID(rec, r.Instance) != launched.Instance {
		return nil, nil
	}
	return d.instances.use(c, r.Instance, r.CgroupOwner), nil
}

// errNoCgroup says that an older daemon did not log where a launch runs.
var errNoCgroup = errors.New("where it runs is not in the log")

func (o *observer) releaseAll() {
	for _, i := range o.running {
		o.d.instances.release(i)
	}
}

func containerOf(rec records.Record) peer.Container {
	return peer.Container{
		ID: rec.ID, Runtime: rec.Runtime, UID: rec.UID, CgroupPath: rec.CgroupPath,
		InitPID: rec.InitPID, InitStart: rec.InitStart, HostPID: rec.HostPID,
	}
}
