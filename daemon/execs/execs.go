// Package execs answers: what did containers execute?
//
// Executions are measured at the gate, which holds each of them on the root file
// system of a container, or they are read from the kernel's IMA log. Both end in exec
// events of the container: one for each content, and one for what has no digest. What
// can't be logged is pending, and no evidence of the container is given until it is
// logged.
package execs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

var (
	errRanBefore   = errors.New("it ran before its executions were watched")
	errNobody      = errors.New("the process can't be attributed")
	errNotMeasured = errors.New("executions are not measured any more")
	errIMALost     = errors.New("the IMA log could not be followed")
)

// publicReason is an error as all may read it, without facts of the container.
func publicReason(err error) string {
	return gate.PublicReason(err, ledger.ErrFull, errRanBefore, errNobody, errIMALost, errNotMeasured)
}

// logTimeout is how long logging what was missed may wait for its turn.
const logTimeout = 10 * time.Second

// Instances tells which instance of a container the log knows; *containers.Manager
// does.
type Instances interface {
	// LoggedOf returns the log's name of the instance that runs of one of root's
	// records, and false if none runs, or if it isn't logged yet.
	LoggedOf(ctx context.Context, rec records.Record) (instance string, ok bool)

	// EnsureLaunched waits until the launch of a caller's instance is logged, and
	// returns its name in the log.
	EnsureLaunched(ctx context.Context, c *peer.Caller) (instance string, err error)
}

// Options say what a Manager works with.
type Options struct {
	Ledger    *ledger.Ledger
	Records   func() *records.Store // as the configuration in force wants them
	Instances Instances
	Peers     *peer.Identifier
	Config    func() *config.Config // in force
	Log       *slog.Logger
	IMADir    string // of the kernel's IMA log
	Hashing   *hashing.Turns
	HostRoot  string // before paths that engines mount at; "" where they are ours
}

// Counts are what happened to executions since the daemon started.
type Counts struct {
	Held   metrics.Histogram // at the gate, until decided
	Missed atomic.Uint64
}

// Manager measures what containers execute.
type Manager struct {
	Options
	Counts Counts

	roots *gate.Roots // nil: ima is the source
	ima   *imaSource  // nil: roots are the source

	stop    context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex
	watched map[string]*watchedRoot // by owner
	devices map[uint64]*watchedRoot // the same, save those that can't be watched
}

// watchedRoot is the root file system of a container. A root file system that can't
// be watched is stored too, so that this is logged once.
type watchedRoot struct {
	owner       string
	start       string        // the writing of its record
	cgroup      string        // as the kernel's templates write it
	device      uint64        // 0: not watched
	cgroupInode atomic.Uint64 // of the instance that is known to be its own; 0: none yet
	logged      sync.Map      // eventKey: logged
	budgetSpent atomic.Bool   // its share of the log is used up, and that is logged
	hasPending  atomic.Bool   // pendingGap is set

	writeLock *semaphore.Weighted // of 1: held while one event is logged

	mu         sync.Mutex
	traits     map[peer.Traits]bool // of processes that are known to be its
	instance   string               // name in the log
	pendingGap *logs.ExecBody       // what was missed, and isn't logged yet
}

// Open begins to measure executions. It returns nil where the configuration doesn't
// want that, or where it can't be done: then LogStopped says so in the log.
func Open(ctx context.Context, o Options) *Manager {
	c := o.Config()
	x := &Manager{Options: o, watched: make(map[string]*watchedRoot), devices: make(map[uint64]*watchedRoot)}
	if c.Exec.Mode == config.ExecOff || c.Gate.Mode == config.GateOff && c.Exec.Source != config.ExecByIMA {
		x.logStopped(ctx)
		return nil
	}
	if err := x.openSource(c.Exec); err != nil {
		o.Log.Warn("executions are not measured", "error", err)
		x.logStopped(ctx)
		return nil
	}
	ctx, x.stop = context.WithCancel(ctx)
	x.working.Go(func() { x.follow(ctx) })
	return x
}

// Close ends the measuring.
func (x *Manager) Close() {
	if x == nil {
		return
	}
	x.stop()
	x.working.Wait()
	if x.ima != nil {
		x.ima.tail.Close()
	} else {
		x.roots.Close()
	}
}

func (x *Manager) openSource(c config.Exec) (err error) {
	if c.Source == config.ExecByIMA {
		x.ima, err = openIMASource(x.IMADir)
		return err
	}
	x.roots, err = gate.HoldRoots(c.MaxSize, gate.Options{
		Deadline: time.Duration(c.Deadline), Refuse: c.Mode == config.ExecEnforce,
		Known: x.alreadyLogged, Decide: x.onExec, Missed: x.missed, Owns: x.owns, Guard: gate.GuardProgram, HostRoot: x.HostRoot,
		Hashing: x.Hashing,
	})
	return err
}

// Started measures a container from now on: its launch is logged, and it is about to
// start. gate.ErrUnmarkable says that it must not, because its executions can't be
// measured and the configuration enforces that.
func (x *Manager) Started(ctx context.Context, rec records.Record, instance string) error {
	w := x.watch(ctx, rec, instance)
	if w.device == 0 && x.Config().Exec.Mode == config.ExecEnforce {
		return gate.ErrUnmarkable
	}
	return nil
}

// watch lays the mark of a container whose launch is logged.
func (x *Manager) watch(ctx context.Context, rec records.Record, instance string) *watchedRoot {
	w := &watchedRoot{
		owner: rec.Name, start: rec.StartKey(), cgroup: kernelsName(rec.CgroupPath), instance: instance,
		writeLock: semaphore.NewWeighted(1), traits: make(map[peer.Traits]bool),
	}
	var err error
	if x.ima != nil {
		x.watchIMA(ctx, w)
	} else {
		w.device, err = x.roots.Add(rec.RootPath)
	}
	x.mu.Lock()
	x.watched[w.owner] = w
	if w.device != 0 {
		x.devices[w.device] = w
	}
	x.mu.Unlock()
	if err != nil {
		x.Log.Warn("executions of a container are not measured", "container", w.owner, "error", err)
		x.gap(ctx, w, logs.ExecBody{Missed: publicReason(err)})
	}
	return w
}

// alreadyLogged reports whether the file that a process is about to execute is the
// container's own, and is logged already.
func (x *Manager) alreadyLogged(h *gate.HeldExec) bool {
	own := x.on(h.Device())
	if own == nil {
		return false
	}
	digest, ok := x.roots.Known(h)
	if !ok {
		return false
	}
	if _, logged := own.logged.Load(eventKey{digest: digest}); !logged {
		return false
	}
	return x.isOf(h, own)
}

// owns reports whether a held process is known to be of the container whose file it
// executes.
func (x *Manager) owns(h *gate.HeldExec) bool {
	own := x.on(h.Device())
	return own != nil && x.isOf(h, own)
}

// isOf reports whether a process is known to be of a container.
func (x *Manager) isOf(h *gate.HeldExec, w *watchedRoot) bool {
	traits, err := x.Peers.TraitsOf(h.PID, h.PIDFD)
	return err == nil && w.has(traits)
}

// onExec measures what a process is about to execute from a watched root file
// system.
func (x *Manager) onExec(ctx context.Context, h *gate.HeldExec) error {
	begin := time.Now()
	defer func() { x.Counts.Held.Add(time.Since(begin)) }()
	w, err := x.ownerOf(ctx, h)
	if w == nil || err != nil {
		return err // a process of the host, or the error is logged where it was seen
	}
	enforced := x.Config().Exec.Mode == config.ExecEnforce
	if w.budgetSpent.Load() && !enforced {
		return nil // logged already
	}
	e := logs.ExecBody{Path: h.Path()}
	content, err := x.roots.Measure(ctx, h)
	switch {
	case err == nil:
		e.SHA384, e.Verity = (*canonical.Digest)(content.SHA384), content.Verity
	case errors.Is(err, gate.ErrWritable) && !enforced:
		e.Writable = true
	default:
		return err
	}
	return x.log(ctx, w, e)
}

// of returns what is watched of an owner, nil if nothing is.
func (x *Manager) of(owner string) *watchedRoot {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.watched[owner]
}

// on returns the container whose root file system a device is, nil if none is
// watched.
func (x *Manager) on(device uint64) *watchedRoot {
	x.mu.Lock()
	defer x.mu.Unlock()
	if w := x.devices[device]; w != nil && x.watched[w.owner] == w {
		return w
	}
	return nil
}

func (x *Manager) all() (all []*watchedRoot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.watched {
		all = append(all, w)
	}
	return all
}
