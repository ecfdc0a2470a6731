package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/logs"
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

	saying lock     // held while one event is logged
	said   sync.Map // execEvent's text: logged
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
func (x *execs) watch(ctx context.Context, rec launch.Record) *watchedRoot {
	w := &watchedRoot{owner: rec.ID, start: startKey(rec), saying: newLock()}
	device, err := x.roots.Add(rec.RootPath)
	if err == nil {
		w.device = device
	}
	x.mu.Lock()
	x.watched[w.owner] = w
	x.mu.Unlock()
	if err != nil {
		x.g.d.log.Warn("executions of a container are not measured", "container", w.owner, "error", err)
		x.say(ctx, w, execEvent{Missed: reason(err)})
	}
	return w
}

// atExec measures what somebody is about to execute from a watched root file
// system.
func (x *execs) atExec(ctx context.Context, h *gate.Held) error {
	d := x.g.d
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

// say logs an event of a container, once per content.
func (x *execs) say(ctx context.Context, w *watchedRoot, e execEvent) error {
	key := e
	if e.SHA384 != nil {
		key.Path = "" // one content may have many names
	}
	text, err := json.Marshal(key)
	if err != nil {
		return err
	}
	if _, ok := w.said.Load(string(text)); ok {
		return nil
	}
	if err := w.saying.take(ctx); err != nil {
		return gate.ErrDeadline
	}
	defer w.saying.give()
	if _, ok := w.said.Load(string(text)); ok {
		return nil
	}
	if _, err := x.g.d.append(ctx, ledger.Event{Operation: logs.OpExec, Owner: w.owner, Measured: e}); err != nil {
		return err
	}
	w.said.Store(string(text), true)
	return nil
}

// missed logs, in the container's own register, an exec that has no digest.
// Where the container is not known it is said of each.
func (x *execs) missed(h *gate.Held, why error) {
	d := x.g.d
	ctx, cancel := context.WithTimeout(context.Background(), missedTime)
	defer cancel()
	e := execEvent{Missed: reason(why)}
	if h != nil {
		e.Path = h.Path()
	}
	for _, w := range x.concerned(ctx, h) {
		d.log.Warn("an execution was not measured", "container", w.owner, "path", e.Path, "error", why)
		if err := x.say(ctx, w, e); err != nil {
			d.log.Error("what was missed is not logged", "container", w.owner, "error", err)
		}
	}
}

func (x *execs) concerned(ctx context.Context, h *gate.Held) []*watchedRoot {
	if h != nil {
		c, err := x.g.d.peers.IdentifyProcess(ctx, h.PID, h.PIDFD)
		if err == nil {
			defer c.Close()
			if c.Container == nil {
				return nil
			}
			if w := x.of(ownerName(*c.Container, c.CgroupOwner)); w != nil {
				return []*watchedRoot{w}
			}
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var all, its []*watchedRoot
	for _, w := range x.watched {
		all = append(all, w)
		if h != nil && w.device != 0 && w.device == h.Device() {
			its = append(its, w)
		}
	}
	if len(its) > 0 {
		return its
	}
	return all
}

// follow finds containers that run and that the gate did not see, and forgets
// those that are gone.
func (x *execs) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if records, err := x.g.d.store().List(ctx); err == nil {
			x.forget(records)
			for _, rec := range records {
				if rec.Err == nil && rec.InitPID != 0 && rec.CgroupPath != "" {
					x.late(ctx, rec)
				}
			}
		}
		pause(ctx, lookForRoots)
	}
}

func (x *execs) forget(records []launch.Record) {
	live := make(map[string]bool, len(records))
	for _, rec := range records {
		live[rec.ID] = true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for owner := range x.watched {
		if !live[owner] {
			delete(x.watched, owner)
		}
	}
}

// late watches a container from now on, and hashes what it runs.
func (x *execs) late(ctx context.Context, rec launch.Record) {
	d := x.g.d
	r, err := d.peers.Running(ctx, containerOf(rec))
	if err != nil || rec.UID != 0 || r.CgroupOwner != 0 {
		return // ended; or a user's, whose root file system is the user's
	}
	if w := x.of(rec.ID); w != nil && w.start == startKey(rec) {
		return
	}
	i := d.instances.use(containerOf(rec), r.Instance, r.CgroupOwner)
	defer d.instances.release(i)
	s, err := d.ledger.Snapshot(i.owner)
	if err != nil || !x.g.same(s.Owner.Instance, rec, i) {
		return // it will be, the next time
	}
	w := x.watch(ctx, rec)
	if err := x.say(ctx, w, execEvent{Missed: errRanBefore.Error()}); err != nil {
		d.log.Error("what was missed is not logged", "container", w.owner, "error", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && ctx.Err() == nil {
			x.lateProcess(ctx, w, rec, pid)
		}
	}
}

// lateProcess hashes the executable of one process, if it is the container's.
func (x *execs) lateProcess(ctx context.Context, w *watchedRoot, rec launch.Record, pid int) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	c, err := x.g.d.peers.IdentifyProcess(ctx, pid, pidfd)
	if err != nil {
		return
	}
	defer c.Close()
	if c.Container == nil || c.Container.ID != rec.ID {
		return
	}
	path, digest, err := x.roots.MeasureProcess(ctx, pid)
	e := execEvent{Late: true, Path: path}
	if err != nil {
		e.Missed = reason(err)
	} else {
		e.SHA384 = (*rpc.Digest)(&digest)
	}
	if !c.Alive() { // the file may have been another's
		return
	}
	if err := x.say(ctx, w, e); err != nil {
		x.g.d.log.Error("an execution is not logged", "container", w.owner, "error", err)
	}
}
