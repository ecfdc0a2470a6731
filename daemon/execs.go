package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/rpc"
)

// Modes of measuring executions.
const (
	execOff     = "off"
	execMeasure = "measure"
	execEnforce = "enforce"
)

// ExecConfig says whether what containers execute is measured.
type ExecConfig struct {
	Mode     string   `toml:"mode"`     // "off", "measure", "enforce"
	Deadline Duration `toml:"deadline"` // for which an exec is held at most
	MaxSize  int64    `toml:"max_size"` // bytes of a file; larger ones are missed
}

func defaultExec() ExecConfig {
	return ExecConfig{Mode: execOff, Deadline: Duration(5 * time.Second), MaxSize: 256 << 20}
}

func (c ExecConfig) check() error {
	switch {
	case c.Mode != execOff && c.Mode != execMeasure && c.Mode != execEnforce:
		return fmt.Errorf("exec.mode = %q: it is %q, %q or %q", c.Mode, execOff, execMeasure, execEnforce)
	case c.MaxSize < 1<<20 || c.MaxSize > 1<<34:
		return fmt.Errorf("exec.max_size = %d: it is from %d to %d", c.MaxSize, 1<<20, 1<<34)
	}
	return nil
}

// execEvent is measured.exec. Only a file that was hashed while nobody could
// write it has a digest: where there is none, no reference value is met.
type execEvent struct {
	Path     string      `json:"path,omitempty"` // from the root of its file system
	SHA384   *rpc.Digest `json:"sha384,omitempty"`
	Late     bool        `json:"late,omitempty"`     // it ran before executions were watched
	Writable bool        `json:"writable,omitempty"` // somebody could write the file
	Missed   string      `json:"missed,omitempty"`   // why there is no digest
}

var (
	errRanBefore = errors.New("it ran before its executions were watched")
	errNobody    = errors.New("the process can't be attributed")
)

// lookForRoots is how often containers that the gate did not see are looked
// for.
const lookForRoots = 2 * time.Second

// execs measures what containers execute.
type execs struct {
	g     *gated
	roots *gate.Roots

	mu      sync.Mutex
	watched map[string]*watchedRoot // by owner
}

// watchedRoot is a container's root file system. One that can't be watched is
// here too, so that this is said once.
type watchedRoot struct {
	owner   string
	start   string        // the writing of its record
	device  uint64        // 0: not watched
	settled atomic.Uint64 // inode of the instance that is known to be its
	said    sync.Map      // execEvent's text: logged
	spent   atomic.Bool   // its share of the log is used up, and that is logged
	owes    atomic.Bool   // owed holds something

	saying lock // held while one event is logged

	mu       sync.Mutex
	instance string     // as the log names it
	owed     *execEvent // what was missed, and that isn't logged yet
}

// openExecs begins to measure executions where the configuration wants it.
func (g *gated) openExecs(ctx context.Context) (closeExecs func()) {
	c := g.d.config().Exec
	if c.Mode == execOff {
		return func() {}
	}
	x := &execs{g: g, watched: make(map[string]*watchedRoot)}
	var err error
	x.roots, err = gate.HoldRoots(c.MaxSize, gate.Options{
		Deadline: time.Duration(c.Deadline), Refuse: c.Mode == execEnforce,
		Decide: x.atExec, Missed: x.missed, Guard: ownProgram,
	})
	if err != nil {
		g.d.log.Warn("executions are not measured", "error", err)
		return func() {}
	}
	g.execs = x
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { x.follow(ctx) })
	return func() {
		cancel()
		working.Wait()
		x.roots.Close()
	}
}

// watch lays the mark of a container that is about to start, whose launch is
// logged.
func (x *execs) watch(ctx context.Context, rec launch.Record, instance string) *watchedRoot {
	w := &watchedRoot{owner: rec.ID, start: startKey(rec), instance: instance, saying: newLock()}
	device, err := x.roots.Add(rec.RootPath)
	if err == nil {
		w.device = device
	}
	x.mu.Lock()
	x.watched[w.owner] = w
	x.mu.Unlock()
	if err != nil {
		x.g.d.log.Warn("executions of a container are not measured", "container", w.owner, "error", err)
		x.gap(ctx, w, execEvent{Missed: reason(err)})
	}
	return w
}

// atExec measures what somebody is about to execute from a watched root file
// system.
func (x *execs) atExec(ctx context.Context, h *gate.Held) error {
	d := x.g.d
	begin := time.Now()
	defer func() { d.counters.execsHeld.add(time.Since(begin)) }()
	c, err := d.peers.IdentifyProcess(ctx, h.PID, h.PIDFD)
	if err != nil {
		return fmt.Errorf("%w: %w", errNobody, err)
	}
	defer c.Close()
	if c.Container == nil {
		return nil // the host looks into a container
	}
	owner := ownerName(*c.Container, c.CgroupOwner)
	w := x.of(owner)
	if w == nil || w.device == 0 {
		return nil // said where it was seen
	}
	if err := x.launched(ctx, w, c); err != nil {
		return err
	}
	if w.spent.Load() && d.config().Exec.Mode != execEnforce {
		return nil // said already
	}
	e := execEvent{Path: h.Path()}
	digest, err := x.roots.Measure(ctx, h)
	switch {
	case err == nil:
		e.SHA384 = (*rpc.Digest)(&digest)
	case errors.Is(err, gate.ErrWritable) && d.config().Exec.Mode != execEnforce:
		e.Writable = true
	default:
		return err
	}
	return x.say(ctx, w, e)
}

func (x *execs) of(owner string) *watchedRoot {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.watched[owner]
}

// launched waits until the launch of the process's instance is logged, for an
// event before it would be another's. It must not wait for an image: the
// engine may wait for this exec.
func (x *execs) launched(ctx context.Context, w *watchedRoot, c *peer.Caller) error {
	if w.settled.Load() == c.Instance {
		return nil
	}
	d := x.g.d
	i := d.instances.use(*c.Container, c.Instance, c.CgroupOwner)
	defer d.instances.release(i)
	for {
		rec, err := d.record(ctx, i)
		if err != nil {
			return err
		}
		s, err := d.ledger.Snapshot(i.owner)
		if err != nil {
			return err
		}
		if x.g.same(s.Owner.Instance, rec, i) {
			w.mu.Lock()
			w.instance = s.Owner.Instance
			w.mu.Unlock()
			w.settled.Store(i.inode)
			return nil
		}
		if i.measuring.try() { // else somebody measures it
			err := d.logLaunch(ctx, i, rec, c.Check)
			i.measuring.give()
			if err != nil {
				return err
			}
			continue
		}
		pause(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			return gate.ErrDeadline
		}
	}
}
