package containers

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/daemon/told"
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
	ready    chan struct{} // closed when bundles holds those that were there before

	life      context.Context // of what is measured
	end       context.CancelFunc
	measuring sync.WaitGroup
	told      told.Starts // more than their bundles say

	mu      sync.Mutex
	bundles map[string]*bundle // that were seen, by writing (records.Record.StartKey)
	firsts  map[uint64]string  // those whose first exec is held, by device of the root file system
}

// bundle is one writing of a bundle, at the gate.
type bundle struct {
	launch phase      // measuring it, when the container is made
	result chan error // of that, once
	start  phase      // judging its first process, when the container starts
	init   int        // the process that was judged, or is
}

// phase is how far something is that is done once.
type phase int

const (
	notBegun phase = iota
	underWay
	done
)

// OpenGate lays marks on the files of runtimes: from then on no container of root's
// starts unseen. It returns nil where the gate is off, or can't be laid: then
// containers are measured when they are seen, and their evidence says so.
func (m *Manager) OpenGate(ctx context.Context, runtimes []string) *Gate {
	c := m.Config().Gate
	if c.Mode == config.GateOff {
		return nil
	}
	g := newGate(m)
	var err error
	g.runtimes, err = gate.HoldRuntimes(slices.Concat(runtimes, c.Runtimes), gate.Options{
		Deadline: time.Duration(c.Deadline), Refuse: c.Mode == config.GateEnforce,
		Decide: g.atRuntime, Missed: g.missed, Guard: gate.GuardProgram, HostRoot: m.HostRoot,
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

func newGate(m *Manager) *Gate {
	g := &Gate{m: m, ready: make(chan struct{}), bundles: make(map[string]*bundle), firsts: make(map[uint64]string)}
	g.life, g.end = context.WithCancel(context.Background())
	return g
}

// Close takes the marks off.
func (g *Gate) Close() {
	if g != nil {
		g.runtimes.Close()
		g.stop()
	}
}

// stop ends what is measured still.
func (g *Gate) stop() {
	g.end()
	g.measuring.Wait()
}

// heldRuntime is a process that is about to be a runtime; *gate.HeldExec is one.
type heldRuntime interface {
	Command() gate.Command
	Names(bundle, id string) bool
}

// atRuntime decides about a process that executes a runtime.
func (g *Gate) atRuntime(ctx context.Context, h *gate.HeldExec) error {
	var err error
	if key := g.firstOf(h); key != "" {
		err = g.firstExec(ctx, h, key)
	} else if uid, ok := h.UID(); !ok || uid != 0 {
		return nil // ended, or a user's engine, whose bundles prove nothing
	} else {
		err = g.decide(ctx, h)
	}
	if !errors.Is(err, gate.ErrAgain) {
		g.m.Counts.Held.Add(time.Since(h.Since))
	}
	return err
}

// decide measures what a runtime is about to make, and judges what it is about to
// start. It reads files alone: the engine holds the container's lock, and would wait
// for the daemon.
func (g *Gate) decide(ctx context.Context, h heldRuntime) error {
	select {
	case <-g.ready:
	case <-ctx.Done():
		return gate.ErrDeadline
	}
	list, err := g.m.Records().List(ctx)
	if err != nil {
		return err
	}
	results := []error{g.told.Note(list, h, func(owner string, classes []string) error { return g.m.announce(ctx, owner, classes) })}
	for _, rec := range g.concerned(list, h) {
		err := g.once(ctx, rec, h.Command().Name == "create")
		if err == nil && h.Command().Name == "run" && h.Command().Names(rec.ID) {
			err = g.holdFirst(rec)
		}
		results = append(results, err)
	}
	starting, wait := g.starting(list, h)
	for _, rec := range starting {
		results = append(results, g.start(ctx, rec, wait))
	}
	return failed(results)
}

// failed joins errors. A failure comes before gate.ErrAgain, which would hide it.
func failed(results []error) error {
	again := false
	var failures []error
	for _, err := range results {
		if errors.Is(err, gate.ErrAgain) {
			again = true
		} else {
			failures = append(failures, err)
		}
	}
	if err := errors.Join(failures...); err != nil || !again {
		return err
	}
	return gate.ErrAgain
}

// makes are the commands of runtimes that make a container.
var makes = []string{"create", "run", "restore"}

// concerned returns the new bundles that the held process names, or all new bundles
// that are complete if it names none and may make a container. What is passed over here
// is measured at START.
func (g *Gate) concerned(list []records.Record, h heldRuntime) []records.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	var fresh, named []records.Record
	for _, rec := range list {
		b := g.bundles[rec.StartKey()]
		if rec.UID != 0 || rec.InitPID != 0 || b != nil && b.launch == done {
			continue
		}
		fresh = append(fresh, rec)
	}
	if len(fresh) == 0 {
		return nil
	}
	g.prune(list)
	for _, rec := range fresh {
		if h.Command().Names(rec.ID) || h.Names(rec.Bundle, rec.ID) {
			named = append(named, rec)
		}
	}
	// Two may have one id. The bundle says which of them is meant, if anything does.
	exact := slices.DeleteFunc(slices.Clone(named), func(rec records.Record) bool {
		return !h.Command().Names(rec.Bundle) && !h.Names(rec.Bundle, rec.Bundle)
	})
	if len(exact) > 0 {
		named = exact
	}
	if c := h.Command().Name; len(named) > 0 || c != "" && !slices.Contains(makes, c) {
		return named
	}
	return slices.DeleteFunc(fresh, func(rec records.Record) bool { return rec.Err != nil || !isMount(g.m.HostRoot, rec.RootPath) })
}

// bundle returns what is known of a bundle; under mu.
func (g *Gate) bundle(rec records.Record) *bundle {
	key := rec.StartKey()
	if g.bundles[key] == nil {
		g.bundles[key] = &bundle{}
	}
	return g.bundles[key]
}

// launchFor is how long a launch is measured and logged at most.
const launchFor = 30 * time.Second

// once measures a bundle, unless that is done. gate.ErrAgain says that another goroutine
// does it.
//
// A large entrypoint may take longer than a runtime is held. Where START follows (made),
// the runtime goes on in time, and the bundle is measured meanwhile: START waits for that,
// and the container counts as gated.
func (g *Gate) once(ctx context.Context, rec records.Record, made bool) error {
	g.mu.Lock()
	b := g.bundle(rec)
	was := b.launch
	if was == notBegun {
		b.launch, b.result = underWay, make(chan error, 1)
		g.m.awaited.begin(rec) // nobody else logs it meanwhile
		g.measuring.Go(func() { g.measure(rec, b) })
	}
	g.mu.Unlock()
	switch was {
	case underWay:
		return gate.ErrAgain
	case done:
		return nil // a failure was reported by the other goroutine
	}
	inTime := make(<-chan time.Time)
	if end, ok := ctx.Deadline(); ok && made {
		left := time.Until(end)
		inTime = time.After(left * 3 / 4)
	}
	select {
	case err := <-b.result:
		return err
	case <-inTime:
		return nil
	case <-ctx.Done():
		return gate.ErrDeadline
	}
}

// measure logs the launch of a bundle.
func (g *Gate) measure(rec records.Record, b *bundle) {
	ctx, cancel := context.WithTimeout(g.life, launchFor)
	defer cancel()
	err := g.launch(ctx, rec)
	if err != nil {
		g.m.Log.Debug("a container that is made was not measured", "container", rec.Name, "error", err)
	}
	g.m.awaited.end(rec.StartKey())
	g.mu.Lock()
	b.launch = done
	g.mu.Unlock()
	b.result <- err
}

// isMeasuring reports whether a bundle is being measured.
func (g *Gate) isMeasuring(rec records.Record) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.bundles[rec.StartKey()]
	return b != nil && b.launch == underWay
}

// launch logs what is about to start, as an instance that has no cgroup yet. In a
// crash loop the launch may be logged later. The launch counts as gated once START is
// judged (start).
func (g *Gate) launch(ctx context.Context, rec records.Record) error {
	if rec.Err != nil {
		return rec.Err
	}
	m, instance := g.m, rec.InstanceID(0)
	l, err := m.measure(ctx, rec)
	if err != nil {
		return fmt.Errorf("measure container %.12s: %w", rec.Name, err)
	}
	m.starts.note(rec.Name, rec.StartKey(), 0, time.Now())
	again, err := m.repeats(rec, l)
	if err != nil {
		return err
	}
	if m.execs != nil {
		m.execs.BeforeLaunch(ctx)
	}
	if again {
		if err = m.logPower(ctx, rec.Name, rec); err == nil { // equal launches may differ in power
			m.deferLaunch(rec, l)
		}
		return err
	}
	err = m.appendLaunch(ctx, rec.Name, instance, rec, l)
	if errors.Is(err, errUnlogged) && m.Config().Gate.Mode != config.GateEnforce {
		m.Log.Warn("a container gets no evidence", "container", rec.Name, "error", err)
		m.unlogged.Note(rec.Name, rec.StartKey())
		return nil
	}
	if err != nil || m.execs == nil {
		return err
	}
	return m.execs.Started(ctx, rec, instance)
}

// prune evicts bundles that are gone; under mu.
func (g *Gate) prune(list []records.Record) {
	if len(g.bundles) < 2*len(list)+64 {
		return
	}
	live, owners := make(map[string]bool), make(map[string]bool)
	for _, rec := range list {
		live[rec.StartKey()], owners[rec.Name] = true, true
	}
	for key, b := range g.bundles {
		if !live[key] && b.launch != underWay && b.start != underWay {
			delete(g.bundles, key)
		}
	}
	g.told.Retain(live)
	g.m.deferred.retain(owners)
	g.m.unlogged.Retain(owners)
	g.m.confirmed.Retain(owners)
}

// isMount reports whether a directory is on another device than its parent. It asks no
// file system anything.
func isMount(hostRoot, dir string) bool {
	here, err := procfs.Stat(unix.AT_FDCWD, hostRoot+dir)
	above, err2 := procfs.Stat(unix.AT_FDCWD, hostRoot+path.Dir(dir))
	return dir != "" && err == nil && err2 == nil && here.Device != above.Device
}
