package containers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/daemon/records"
)

// A runtime that makes and starts a container with one command (runc run) has no START.
// The first exec on the container's root file system, by its first process, stands for
// it: the runtime's set-up is over, and the process is held in execve(2).

// awaitedExecs are the starts whose first exec is awaited, and those that are being
// measured: nobody else logs them. The zero value is empty.
type awaitedExecs struct {
	mu    sync.Mutex
	byKey map[string]awaitedExec // by records.Record.StartKey
}

type awaitedExec struct {
	owner string
	since time.Time
}

func (a *awaitedExecs) begin(rec records.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byKey == nil {
		a.byKey = make(map[string]awaitedExec)
	}
	for old, is := range a.byKey {
		if time.Since(is.since) > notStarted {
			delete(a.byKey, old)
		}
	}
	a.byKey[rec.StartKey()] = awaitedExec{rec.Name, time.Now()}
}

func (a *awaitedExecs) end(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byKey, key)
}

// holds reports whether a start's first exec is awaited. One that never comes is not
// awaited for ever.
func (a *awaitedExecs) holds(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	is, ok := a.byKey[key]
	return ok && time.Since(is.since) < notStarted
}

// holdsOwner reports whether one of a container's starts is awaited.
func (a *awaitedExecs) holdsOwner(owner string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, is := range a.byKey {
		if is.owner == owner && time.Since(is.since) < notStarted {
			return true
		}
	}
	return false
}

// holdFirst has the first exec of a container held. Where that can't be done the
// container starts unseen, or is refused.
func (g *Gate) holdFirst(rec records.Record) error {
	g.mu.Lock()
	defer g.mu.Unlock() // until firsts has it: the exec may follow at once
	device, err := g.runtimes.HoldFirst(rec.RootPath)
	if err != nil {
		g.m.Log.Warn("the first exec of a container is not held", "container", rec.Name, "error", err)
		if g.m.Config().Gate.Mode == config.GateEnforce {
			return fmt.Errorf("container %.12s is not judged: %w", rec.ID, err)
		}
		return nil
	}
	g.firsts[device] = rec.StartKey()
	g.m.awaited.begin(rec)
	return nil
}

// firstOf returns the start whose first exec a held process may be; "": none.
func (g *Gate) firstOf(h *gate.HeldExec) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.firsts[h.Device()]
}

// firstExec judges a container whose first process executes its program. Other
// processes on its root file system are hooks, and go on.
func (g *Gate) firstExec(ctx context.Context, h *gate.HeldExec, key string) error {
	list, err := g.m.Records().List(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(list, func(rec records.Record) bool { return rec.StartKey() == key })
	switch {
	case at < 0:
		g.letFirst(h)
		return nil // its bundle is gone, or written anew
	case list[at].InitPID == 0:
		return gate.ErrAgain // the runtime notes it in a moment
	case list[at].InitPID != h.PID:
		return nil
	}
	rec := list[at]
	if started, err := procfs.Started(h.PID); rec.InitStart != 0 && (err != nil || started != rec.InitStart) {
		return nil
	}
	if g.beginJudging(rec) {
		err = g.judge(ctx, rec, power.Init{PID: h.PID, PIDFD: h.PIDFD}, h.IsHeld)
		g.mu.Lock()
		g.bundle(rec).start = done // a second exec is not the first
		g.mu.Unlock()
	}
	g.letFirst(h)
	return err
}

// letFirst holds no more execs of a container.
func (g *Gate) letFirst(h *gate.HeldExec) {
	g.mu.Lock()
	key, ok := g.firsts[h.Device()]
	delete(g.firsts, h.Device())
	g.mu.Unlock()
	if !ok {
		return
	}
	g.m.awaited.end(key)
	if err := g.runtimes.LetFirst(h); err != nil {
		g.m.Log.Warn("a mark on a container's root file system stays until it is unmounted", "error", err)
	}
}
