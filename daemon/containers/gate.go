package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/daemon/records"
)

// Counts are what happened to starts since the daemon started.
type Counts struct {
	Held     metrics.Histogram // runtimes at the gate, until decided
	Missed   atomic.Uint64     // starts that were not measured in time
	Repeated atomic.Uint64     // starts measured in a crash loop, and not logged at once
}

// Gate measures containers that are about to start.
type Gate struct {
	m        *Manager
	runtimes *gate.Runtimes
	ready    chan struct{} // closed when starts holds the bundles that were there before

	mu     sync.Mutex
	starts map[string]chan struct{} // bundles that were seen, by writing; closed once decided
}

// OpenGate lays marks on the files of runtimes: from then on no container of root's
// starts unseen. It returns nil where the gate is off, or can't be laid: then
// containers are measured when they are seen, and their evidence says so.
func (m *Manager) OpenGate(ctx context.Context, runtimes []string) *Gate {
	c := m.Config().Gate
	if c.Mode == config.GateOff {
		return nil
	}
	g := &Gate{m: m, ready: make(chan struct{}), starts: make(map[string]chan struct{})}
	var err error
	g.runtimes, err = gate.HoldRuntimes(slices.Concat(runtimes, c.Runtimes), gate.Options{
		Deadline: time.Duration(c.Deadline), Refuse: c.Mode == config.GateEnforce,
		Decide: g.atRuntime, Missed: g.missed, Guard: gate.GuardProgram,
	})
	if err != nil {
		level := m.Log.Warn
		if errors.Is(err, unix.EPERM) && c.Mode != config.GateEnforce {
			level = m.Log.Info // installed so, by no-gate.conf
		}
		level("starts of containers are observed, not gated", "error", err)
		return nil
	}
	g.skipPresent(ctx)
	close(g.ready)
	m.Log.Info("the gate stands", "mode", c.Mode, "runtimes", strings.Join(g.runtimes.Marked(), " "))
	return g
}

// Close takes the marks off.
func (g *Gate) Close() {
	if g != nil {
		g.runtimes.Close()
	}
}

// atRuntime measures what a process that executes a runtime is about to start. It
// reads files alone: the engine holds the container's lock, and would wait for the
// daemon.
func (g *Gate) atRuntime(ctx context.Context, h *gate.HeldExec) error {
	begin := time.Now()
	defer func() { g.m.Counts.Held.Add(time.Since(begin)) }()
	if uid, ok := h.UID(); !ok || uid != 0 {
		return nil // ended, or a user's engine, whose bundles prove nothing
	}
	select {
	case <-g.ready:
	case <-ctx.Done():
		return gate.ErrDeadline
	}
	list, err := g.m.Records().List(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, rec := range g.concerned(list, h) {
		failed = append(failed, g.once(ctx, rec))
	}
	return errors.Join(failed...)
}

// concerned returns the new bundles that the held process names, or all new bundles
// that are complete if it names none.
func (g *Gate) concerned(list []records.Record, h *gate.HeldExec) []records.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	var fresh, named []records.Record
	for _, rec := range list {
		s := g.starts[rec.StartKey()]
		if rec.UID != 0 || rec.InitPID != 0 || s != nil && isClosed(s) {
			continue
		}
		fresh = append(fresh, rec)
	}
	if len(fresh) == 0 {
		return nil
	}
	g.prune(list)
	for _, rec := range fresh {
		if h.Names(rec.Bundle, rec.ID) {
			named = append(named, rec)
		}
	}
	if len(named) > 0 {
		return named
	}
	return slices.DeleteFunc(fresh, func(rec records.Record) bool { return rec.Err != nil || !isMount(g.m.HostRoot, rec.RootPath) })
}

// once measures a bundle, or waits for the goroutine that does.
func (g *Gate) once(ctx context.Context, rec records.Record) error {
	key := rec.StartKey()
	g.mu.Lock()
	decided, seen := g.starts[key]
	if !seen {
		decided = make(chan struct{})
		g.starts[key] = decided
	}
	g.mu.Unlock()
	if !seen {
		defer close(decided)
		return g.launch(ctx, rec)
	}
	select {
	case <-decided:
		return nil // a failure was reported by the other goroutine
	case <-ctx.Done():
		return gate.ErrDeadline
	}
}

// launch logs what is about to start, as an instance that has no cgroup yet. In a
// crash loop the launch may be logged later.
func (g *Gate) launch(ctx context.Context, rec records.Record) error {
	if rec.Err != nil {
		return rec.Err
	}
	m, instance := g.m, rec.InstanceID(0)
	l, err := m.Records().Measure(ctx, rec)
	if err != nil {
		return fmt.Errorf("measure container %.12s: %w", rec.ID, err)
	}
	m.starts.note(rec.ID, rec.StartKey(), 0, time.Now())
	again, err := m.repeats(rec, l)
	if err != nil {
		return err
	}
	if m.execs != nil {
		m.execs.BeforeLaunch(ctx)
	}
	if again {
		err = m.logPower(ctx, rec.ID, rec) // equal launches may differ in power
	} else {
		err = m.appendLaunch(ctx, rec.ID, instance, rec, l)
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return gate.ErrDeadline
	}
	// Whatever became of the process that was held: while the runtime has noted no
	// first process, none runs.
	if unstarted, err := g.unstarted(ctx, rec); !unstarted {
		return errors.Join(gate.ErrLetGo, err)
	}
	if again {
		m.deferLaunch(rec, l)
		return nil
	}
	if m.execs != nil {
		if err := m.execs.Started(ctx, rec, instance); err != nil {
			return err
		}
	}
	return m.confirmed.confirm(rec.ID, instance)
}

func (g *Gate) unstarted(ctx context.Context, rec records.Record) (bool, error) {
	list, err := g.m.Records().List(ctx)
	for _, now := range list {
		if now.ID == rec.ID && now.UID == rec.UID {
			return now.Stamp == rec.Stamp && now.InitPID == 0, nil
		}
	}
	return false, err
}

// prune evicts bundles that are gone; under mu.
func (g *Gate) prune(list []records.Record) {
	if len(g.starts) < 2*len(list)+64 {
		return
	}
	live, owners := make(map[string]bool), make(map[string]bool)
	for _, rec := range list {
		live[rec.StartKey()], owners[rec.ID] = true, true
	}
	for key, s := range g.starts {
		if !live[key] && isClosed(s) {
			delete(g.starts, key)
		}
	}
	g.m.deferred.retain(owners)
	g.m.confirmed.retain(owners)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// isMount reports whether a directory is on another device than its parent.
func isMount(hostRoot, dir string) bool {
	var here, above unix.Stat_t
	return dir != "" && unix.Stat(hostRoot+dir, &here) == nil && unix.Stat(hostRoot+dir+"/..", &above) == nil && here.Dev != above.Dev
}
