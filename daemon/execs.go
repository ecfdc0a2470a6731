package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

var (
	errRanBefore = errors.New("it ran before its executions were watched")
	errNobody    = errors.New("the process can't be attributed")

	errUnmeasured = errors.New("executions are not measured any more")
)

// lookForRoots is how often containers that the gate did not see are looked
// for.
const lookForRoots = 2 * time.Second

// execCounts are what happened to executions since the daemon started.
type execCounts struct {
	held   metrics.Histogram // at the gate, until decided
	missed atomic.Uint64
}

// execs measures what containers execute.
type execs struct {
	g     *gated
	roots *gate.Roots // nil: ima tells
	ima   *imaSource  // nil: roots tell

	mu     sync.Mutex
	counts execCounts

	watched map[string]*watchedRoot // by owner
	devices map[uint64]*watchedRoot // the same, save those that can't be watched
}

// watchedRoot is a container's root file system. One that can't be watched is
// here too, so that this is said once.
type watchedRoot struct {
	owner   string
	start   string        // the writing of its record
	cgroup  string        // as the kernel's templates write it
	device  uint64        // 0: not watched
	settled atomic.Uint64 // inode of the instance that is known to be its
	said    sync.Map      // saidOnce: logged
	spent   atomic.Bool   // its share of the log is used up, and that is logged
	owes    atomic.Bool   // owed holds something

	saying lock // held while one event is logged

	mu       sync.Mutex
	traits   map[peer.Traits]bool // of processes that are known to be its
	instance string               // as the log names it
	owed     *logs.ExecBody       // what was missed, and that isn't logged yet
}

// openExecs begins to measure executions where the configuration wants it.
func (g *gated) openExecs(ctx context.Context) (closeExecs func()) {
	c := g.d.config().Exec
	if c.Mode == config.ExecOff {
		g.unmeasured(ctx)
		return func() {}
	}
	x := &execs{g: g, watched: make(map[string]*watchedRoot), devices: make(map[uint64]*watchedRoot)}
	closeSource, err := x.openSource(c)
	if err != nil {
		g.d.log.Warn("executions are not measured", "error", err)
		g.unmeasured(ctx)
		return func() {}
	}
	g.execs = x
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { x.follow(ctx) })
	return func() {
		cancel()
		working.Wait()
		closeSource()
	}
}

func (x *execs) openSource(c config.Exec) (closeSource func(), err error) {
	if c.Source == config.ExecByIMA {
		if x.ima, err = openIMASource(x.g.d.opts.imaDir()); err != nil {
			return nil, err
		}
		return func() { x.ima.log.Close() }, nil
	}
	x.roots, err = gate.HoldRoots(c.MaxSize, gate.Options{
		Deadline: time.Duration(c.Deadline), Refuse: c.Mode == config.ExecEnforce,
		Known: x.known, Decide: x.atExec, Missed: x.missed, Guard: ownProgram, HostRoot: x.g.d.hostRoot,
	})
	if err != nil {
		return nil, err
	}
	return x.roots.Close, nil
}

// watch lays the mark of a container that is about to start, whose launch is
// logged.
func (x *execs) watch(ctx context.Context, rec records.Record, instance string) *watchedRoot {
	w := &watchedRoot{owner: rec.ID, start: startKey(rec), cgroup: kernelsName(rec.CgroupPath), instance: instance, saying: newLock(), traits: make(map[peer.Traits]bool)}
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
		x.g.d.log.Warn("executions of a container are not measured", "container", w.owner, "error", err)
		x.gap(ctx, w, logs.ExecBody{Missed: reason(err)})
	}
	return w
}

// known says that what somebody is about to execute is the container's own, and
// is logged already.
func (x *execs) known(h *gate.HeldExec) bool {
	own := x.on(h.Device())
	if own == nil {
		return false
	}
	digest, ok := x.roots.Known(h)
	if !ok {
		return false
	}
	if _, said := own.said.Load(saidOnce{digest: digest}); !said {
		return false
	}
	traits, err := x.g.d.peers.TraitsOf(h.PID, h.PIDFD)
	return err == nil && own.has(traits)
}

// atExec measures what somebody is about to execute from a watched root file
// system.
func (x *execs) atExec(ctx context.Context, h *gate.HeldExec) error {
	begin := time.Now()
	defer func() { x.counts.held.Add(time.Since(begin)) }()
	w, err := x.whose(ctx, h)
	if w == nil || err != nil {
		return err // the host looks into a container, or it was said where it was seen
	}
	enforced := x.g.d.config().Exec.Mode == config.ExecEnforce
	if w.spent.Load() && !enforced {
		return nil // said already
	}
	e := logs.ExecBody{Path: h.Path()}
	content, err := x.roots.Measure(ctx, h)
	switch {
	case err == nil:
		e.SHA384, e.Verity = (*rpc.Digest)(content.SHA384), content.Verity
	case errors.Is(err, gate.ErrWritable) && !enforced:
		e.Writable = true
	default:
		return err
	}
	return x.say(ctx, w, e)
}
