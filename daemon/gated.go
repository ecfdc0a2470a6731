package daemon

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
	"github.com/cima-project/cima/logs"
)

// startCounts are what happened to starts since the daemon started.
type startCounts struct {
	held     metrics.Histogram // runtimes at the gate, until decided
	missed   atomic.Uint64     // starts that were not measured in time
	repeated atomic.Uint64     // starts measured in a crash loop, and not logged at once
}

// gated measures containers that are about to start.
type gated struct {
	d        *Daemon
	runtimes *gate.Runtimes // nil: none is held
	execs    *execs         // nil: executions are not measured
	ready    chan struct{}  // closed when starts holds what was there before

	adoptions *adoptions
	counts    startCounts

	mu     sync.Mutex
	starts map[string]chan struct{} // bundles that were seen, by writing; closed once decided

	unlogged map[string]unlogged // by owner
}

// ownProgram is what runs, whatever has its name by now. Main makes it a guard.
const ownProgram = "/proc/self/exe"

func newGated(d *Daemon) (*gated, error) {
	a, err := openAdoptions(d.opts.LogDir, func(owner string) string {
		s, err := d.ledger.Snapshot(owner)
		if err != nil {
			return ""
		}
		return s.Owner.Instance
	})
	if err != nil {
		return nil, fmt.Errorf("what was gated before: %w", err)
	}
	return &gated{d: d, ready: make(chan struct{}), adoptions: a, starts: make(map[string]chan struct{}), unlogged: make(map[string]unlogged)}, nil
}

// open lays the marks; from there on nothing starts unseen. What it
// returns takes them off again. Where the gate can't be, containers are
// measured when they are seen, and their evidence says so.
func (g *gated) open(ctx context.Context) (closeGate func()) {
	d, c := g.d, g.d.config()
	if c.Gate.Mode == config.GateOff && c.Exec.Source != config.ExecByIMA {
		g.unmeasured(ctx)
		return func() {}
	}
	closeExecs := g.openExecs(ctx)
	if c.Gate.Mode == config.GateOff {
		return closeExecs
	}
	var err error
	g.runtimes, err = gate.HoldRuntimes(slices.Concat(d.opts.usualRuntimes(), c.Gate.Runtimes), gate.Options{
		Deadline: time.Duration(c.Gate.Deadline), Refuse: c.Gate.Mode == config.GateEnforce,
		Decide: g.atRuntime, Missed: g.missed, Guard: ownProgram,
	})
	if err != nil {
		level := d.log.Warn
		if errors.Is(err, unix.EPERM) && c.Gate.Mode != config.GateEnforce {
			level = d.log.Info // installed so, by no-gate.conf
		}
		level("starts of containers are observed, not gated", "error", err)
		return closeExecs
	}
	g.skipPresent(ctx)
	close(g.ready)
	d.log.Info("the gate stands", "mode", c.Gate.Mode, "runtimes", strings.Join(g.runtimes.Marked(), " "))
	return func() {
		g.runtimes.Close()
		closeExecs()
	}
}

// startKey names a writing of a bundle, or one that can't be read.
func startKey(rec records.Record) string {
	if rec.Err != nil {
		return rec.Bundle
	}
	return instanceID(rec, 0)
}

// atRuntime looks at whoever executes a runtime. It reads files alone: the
// engine holds the container's lock, and would wait for us.
func (g *gated) atRuntime(ctx context.Context, h *gate.HeldExec) error {
	begin := time.Now()
	defer func() { g.counts.held.Add(time.Since(begin)) }()
	if uid, ok := h.UID(); !ok || uid != 0 {
		return nil // ended, or a user's engine, whose bundles prove nothing
	}
	select {
	case <-g.ready:
	case <-ctx.Done():
		return gate.ErrDeadline
	}
	records, err := g.d.store().List(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, rec := range g.concerned(records, h) {
		failed = append(failed, g.once(ctx, rec))
	}
	return errors.Join(failed...)
}

// concerned are the new bundles that the held process was started for; where
// it names none, all new ones that are complete.
func (g *gated) concerned(list []records.Record, h *gate.HeldExec) []records.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	var fresh, named []records.Record
	for _, rec := range list {
		s := g.starts[startKey(rec)]
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
	return slices.DeleteFunc(fresh, func(rec records.Record) bool { return rec.Err != nil || !isMount(g.d.hostRoot, rec.RootPath) })
}

// once measures a bundle, or waits for who does.
func (g *gated) once(ctx context.Context, rec records.Record) error {
	key := startKey(rec)
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
		return nil // if it failed, that was said
	case <-ctx.Done():
		return gate.ErrDeadline
	}
}

// launch logs what is about to be started, as an instance that has no cgroup
// yet; in a crash loop it may be logged later.
func (g *gated) launch(ctx context.Context, rec records.Record) error {
	if rec.Err != nil {
		return rec.Err
	}
	l, err := g.d.store().Measure(ctx, rec)
	if err != nil {
		return fmt.Errorf("measure container %.12s: %w", rec.ID, err)
	}
	g.d.starts.note(rec.ID, startKey(rec), 0, time.Now())
	again, err := g.repeats(rec, l)
	if err != nil {
		return err
	}
	if g.execs != nil {
		g.execs.before(ctx)
	}
	if again {
		err = g.d.announcePower(ctx, rec.ID, rec) // which a launch needn't tell
	} else {
		err = g.d.appendLaunch(ctx, rec.ID, instanceID(rec, 0), rec, l)
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return gate.ErrDeadline
	}
	// Whatever became of the process that was held: as long as the runtime
	// has noted no first process, none runs.
	if still, err := g.unstarted(ctx, rec); !still {
		return errors.Join(gate.ErrLetGo, err)
	}
	if again {
		g.keep(rec, l)
		return nil
	}
	if g.execs != nil {
		w := g.execs.watch(ctx, rec, instanceID(rec, 0))
		if w.device == 0 && g.d.config().Exec.Mode == config.ExecEnforce {
			return gate.ErrUnmarkable
		}
	}
	return g.adoptions.confirm(rec.ID, instanceID(rec, 0))
}

// settle logs what is owed of a container's executions, or says why it can't.
func (g *gated) settle(ctx context.Context, owner string) error {
	if g.execs == nil {
		return nil
	}
	return g.execs.settle(ctx, owner)
}

// owes says that settle may have something to do.
func (g *gated) owes(owner string) bool {
	if g.execs == nil {
		return false
	}
	if g.execs.ima != nil {
		return true // the kernel's log may have gone on
	}
	w := g.execs.of(owner)
	return w != nil && (w.owes.Load() || g.execs.roots.Unreported())
}

func (g *gated) unstarted(ctx context.Context, rec records.Record) (bool, error) {
	records, err := g.d.store().List(ctx)
	for _, now := range records {
		if now.ID == rec.ID && now.UID == rec.UID {
			return now.Stamp == rec.Stamp && now.InitPID == 0, nil
		}
	}
	return false, err
}

// prune forgets bundles that are gone; under mu.
func (g *gated) prune(records []records.Record) {
	if len(g.starts) < 2*len(records)+64 {
		return
	}
	live, owners := make(map[string]bool), make(map[string]bool)
	for _, rec := range records {
		live[startKey(rec)], owners[rec.ID] = true, true
	}
	for key, s := range g.starts {
		if !live[key] && isClosed(s) {
			delete(g.starts, key)
		}
	}
	for owner := range g.unlogged {
		if !owners[owner] {
			delete(g.unlogged, owner)
		}
	}
	g.adoptions.keep(owners)
}

// same says whether the launch that was logged last for an instance's owner is
// that instance's.
func (g *gated) same(logged string, rec records.Record, i *instance) bool {
	if logged != instanceID(rec, 0) {
		return logged == instanceID(rec, i.inode)
	}
	mine, err := g.adoptions.adopt(i.owner, logged, i.inode)
	if err != nil {
		g.d.log.Error("a gated launch can't be kept for its container", "container", i.owner, "error", err)
	}
	return mine
}

// startOf is what claims say of how an instance's launch was measured: on disk
// a gated one has no cgroup.
func startOf(logged string) string {
	if strings.HasSuffix(logged, "/0") {
		return logs.StartGated
	}
	return logs.StartObserved
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// isMount says that a directory is not on the device of the one above it.
func isMount(hostRoot, dir string) bool {
	var here, above unix.Stat_t
	return dir != "" && unix.Stat(hostRoot+dir, &here) == nil && unix.Stat(hostRoot+dir+"/..", &above) == nil && here.Dev != above.Dev
}
