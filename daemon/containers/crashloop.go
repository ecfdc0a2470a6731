package containers

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// A container that starts over and over with the same launch is logged when it
// calls, or when it has stayed for a while: a crash loop must not fill the log.
const (
	loopStarts = 5
	loopWindow = 10 * time.Minute
	loopStay   = 30 * time.Second
)

// recentStarts are the latest starts of each container, at most one more than a
// crash loop needs. The zero value is empty.
type recentStarts struct {
	mu      sync.Mutex
	byOwner map[string][]start
}

// start is one start of a container.
type start struct {
	record string // the writing of its record
	inode  uint64 // of its cgroup; 0: only the gate has seen it
	at     time.Time
}

// note counts a start. A start that the gate sees, and the survey sees again, is
// one.
func (s *recentStarts) note(owner, record string, inode uint64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	recent := s.byOwner[owner]
	for i := range recent {
		if was := &recent[i]; was.record == record && (was.inode == 0 || was.inode == inode) {
			was.inode = inode
			return
		}
	}
	s.evict(at)
	recent = append(s.byOwner[owner], start{record, inode, at})
	if len(recent) > loopStarts+1 {
		recent = recent[1:]
	}
	if s.byOwner == nil {
		s.byOwner = make(map[string][]start)
	}
	s.byOwner[owner] = recent
}

// evict drops the containers whose last start is long ago; under mu.
func (s *recentStarts) evict(now time.Time) {
	for owner, recent := range s.byOwner {
		if now.Sub(recent[len(recent)-1].at) > loopWindow {
			delete(s.byOwner, owner)
		}
	}
}

// loop reports whether a container starts over and over.
func (s *recentStarts) loop(owner string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	recent := s.byOwner[owner]
	return len(recent) > loopStarts && now.Sub(recent[0].at) <= loopWindow
}

// repeats reports whether a container in a crash loop is about to run what the log
// says of it already. Where executions are measured every start is logged, because
// executions are logged of an instance that the log knows.
func (m *Manager) repeats(rec records.Record, l launch.Launch) (bool, error) {
	if m.execs != nil || !m.starts.loop(rec.Name, time.Now()) {
		return false, nil
	}
	at, err := m.Ledger.Snapshot(rec.Name)
	if err != nil || at.Owner.Instance == "" {
		return false, err
	}
	last, err := m.Ledger.Held(rec.Name, at.Owner.Instance, 0, 1)
	if err != nil || len(last) == 0 || last[0].Operation != logs.OpLaunch {
		return false, err
	}
	if l, err = launch.Condense(l, maxLaunch); err != nil {
		return false, err
	}
	text, err := canonical.Marshal(l)
	return bytes.Equal(text, last[0].Body()), err
}

// deferredLaunch is a launch of a crash loop: measured at the gate, equal to the
// launch that is logged last of its container, and not logged itself yet. The logged
// launch binds what is about to run; the deferred one is logged when somebody asks
// for it, so that the evidence of an instance always holds a launch of its own.
type deferredLaunch struct {
	record  string // the writing of it
	launch  launch.Launch
	judged  bool              // at START
	mounted *logs.MountedBody // what was found there; nil: nothing
	power   []string          // classes that it showed
}

// deferredLaunches are those of each owner. The zero value is empty.
type deferredLaunches struct {
	mu      sync.Mutex
	byOwner map[string]deferredLaunch
}

func (d *deferredLaunches) store(owner string, l deferredLaunch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byOwner == nil {
		d.byOwner = make(map[string]deferredLaunch)
	}
	d.byOwner[owner] = l
}

// take returns the deferred launch of a start, once: two instances of one record
// can't both be what the gate saw.
func (d *deferredLaunches) take(owner, record string) (deferredLaunch, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.byOwner[owner]
	if !ok || l.record != record {
		return deferredLaunch{}, false
	}
	delete(d.byOwner, owner)
	return l, true
}

// holds reports whether there is a deferred launch of a start.
func (d *deferredLaunches) holds(owner, record string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.byOwner[owner]
	return ok && l.record == record
}

// judged notes that a start was judged, and what is to be logged of that.
func (d *deferredLaunches) judged(owner, record string, mounted *logs.MountedBody, power []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l, ok := d.byOwner[owner]; ok && l.record == record {
		l.judged, l.mounted, l.power = true, mounted, power
		d.byOwner[owner] = l
	}
}

// restore stores a launch again, unless there is a newer one.
func (d *deferredLaunches) restore(owner string, l deferredLaunch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, newer := d.byOwner[owner]; !newer {
		d.byOwner[owner] = l
	}
}

// retain evicts all launches but those of these owners.
func (d *deferredLaunches) retain(owners map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for owner := range d.byOwner {
		if !owners[owner] {
			delete(d.byOwner, owner)
		}
	}
}

// deferLaunch stores a launch that is logged later, if somebody asks for it.
func (m *Manager) deferLaunch(rec records.Record, l launch.Launch) {
	m.Counts.Repeated.Add(1)
	m.Log.Info("container measured as before, in a crash loop", "container", rec.Name, "runtime", rec.Runtime)
	m.deferred.store(rec.Name, deferredLaunch{record: rec.StartKey(), launch: l})
}

// logDeferred logs the deferred launch of an instance; false: there is none, because the
// gate did not see it, or logged it.
func (m *Manager) logDeferred(ctx context.Context, owner string, rec records.Record) (found bool, err error) {
	d, ok := m.deferred.take(owner, rec.StartKey())
	if !ok {
		return false, nil
	}
	instance := rec.InstanceID(0)
	err = m.appendLaunch(ctx, owner, instance, rec, d.launch)
	if err == nil && d.judged {
		if err = m.logMounted(ctx, owner, instance, d.mounted); err == nil {
			err = m.confirmed.Confirm(owner, instance, d.power...)
		}
	}
	if err != nil {
		m.deferred.restore(owner, d)
	}
	return true, err
}
