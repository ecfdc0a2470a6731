package execs

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// eventKey is what is logged once of a container.
type eventKey struct {
	logs.ExecBody
	digest rpc.Digest
}

func keyOf(e logs.ExecBody) eventKey {
	key := eventKey{ExecBody: e}
	if e.SHA384 != nil { // one content may have many names, and fs-verity's digest follows from it
		key.digest, key.SHA384, key.Verity, key.Path = *e.SHA384, nil, "", ""
	}
	return key
}

// log logs an event of a container, once for each content.
func (x *Manager) log(ctx context.Context, w *watchedRoot, e logs.ExecBody) error {
	return x.logOnce(ctx, w, ledger.Event{Measured: e}, e)
}

func (x *Manager) logOnce(ctx context.Context, w *watchedRoot, event ledger.Event, e logs.ExecBody) error {
	key := keyOf(e)
	if _, ok := w.logged.Load(key); ok {
		return nil
	}
	if err := w.writeLock.Acquire(ctx, 1); err != nil {
		return gate.ErrDeadline
	}
	defer w.writeLock.Release(1)
	if _, ok := w.logged.Load(key); ok {
		return nil
	}
	event.Operation, event.Owner, event.Instance = logs.OpExec, w.owner, w.loggedAs()
	if _, err := x.Ledger.AppendUntil(ctx, event); err != nil {
		return err
	}
	w.logged.Store(key, true)
	return nil
}

// loggedAs is the name of the instance in the log.
func (w *watchedRoot) loggedAs() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.instance
}

// gap logs that something of a container has no digest. What can't be logged now is
// pending.
func (x *Manager) gap(ctx context.Context, w *watchedRoot, e logs.ExecBody) {
	err := x.logGap(ctx, w, e)
	if err == nil {
		return
	}
	x.Log.Error("a gap could not be logged yet", "container", w.owner, "error", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pendingGap != nil && *w.pendingGap != e {
		e = logs.ExecBody{Missed: publicReason(err)} // of several gaps one event is enough
	}
	w.pendingGap = &e
	w.hasPending.Store(true)
}

// logGap logs a gap in the container's own register. When the container's share of
// the log is used up it logs that once; when the log takes no events of containers
// any more it logs a public event.
func (x *Manager) logGap(ctx context.Context, w *watchedRoot, e logs.ExecBody) error {
	err := ledger.ErrSpent
	if e.Missed != ledger.ErrFull.Error() {
		err = x.log(ctx, w, e)
	}
	if errors.Is(err, ledger.ErrSpent) {
		full := logs.ExecBody{Missed: ledger.ErrFull.Error()}
		err = x.logOnce(ctx, w, ledger.Event{Measured: full, Last: true}, full)
		if err == nil || errors.Is(err, ledger.ErrSpent) { // a former run of the daemon logged it
			w.budgetSpent.Store(true)
			return nil
		}
	}
	switch {
	case errors.Is(err, ledger.ErrReplaced):
		return nil // that instance can't have evidence any more
	case errors.Is(err, ledger.ErrFull):
		return x.logPublicGap(ctx, w, err)
	}
	return err
}

func (x *Manager) logPublicGap(ctx context.Context, w *watchedRoot, why error) error {
	if w.budgetSpent.Load() {
		return nil
	}
	err := x.Ledger.Missed(ctx, logs.MissedExec, publicReason(why))
	w.budgetSpent.Store(err == nil)
	return err
}

// flushRetry is how long a caller is asked to wait for what is pending.
const flushRetry = time.Second

// Pending reports whether Flush may have something to do.
func (x *Manager) Pending(owner string) bool {
	if x.ima != nil {
		return true // the kernel's log may have grown
	}
	w := x.of(owner)
	return w != nil && (w.hasPending.Load() || x.roots.Unreported(w.device))
}

// Flush logs what is pending of a container. Its error is for the caller: ask again.
func (x *Manager) Flush(ctx context.Context, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(x.Config().Limits.RegisterTimeout))
	defer cancel()
	if x.ima != nil {
		if err := x.flushIMA(ctx); err != nil {
			return rpc.NotReady(flushRetry, notYet).Because(err)
		}
	}
	w := x.of(owner)
	if x.ima != nil && !strings.Contains(owner, "/") && (w == nil || !x.isCurrent(w)) {
		return rpc.NotReady(flushRetry, "what was executed before the container was seen isn't logged yet: ask again")
	}
	if w == nil {
		return nil
	}
	if x.roots != nil && x.roots.WaitReported(ctx, w.device) != nil { // it may be this container's
		return rpc.NotReady(flushRetry, notYet)
	}
	if !w.hasPending.Load() {
		return nil
	}
	w.mu.Lock()
	pending := w.pendingGap
	w.mu.Unlock()
	if pending == nil {
		return nil
	}
	if err := x.logGap(ctx, w, *pending); err != nil {
		return rpc.NotReady(flushRetry, notYet).Because(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pendingGap == pending { // else there is another by now
		w.pendingGap = nil
		w.hasPending.Store(false)
	}
	if w.pendingGap != nil {
		return rpc.NotReady(flushRetry, notYet)
	}
	return nil
}

const notYet = "not all that was executed is logged yet: ask again"

// isCurrent reports whether a watched root is of the instance that was logged last.
func (x *Manager) isCurrent(w *watchedRoot) bool {
	s, err := x.Ledger.Snapshot(w.owner)
	return err == nil && s.Owner.Instance == w.loggedAs()
}

// missed logs an execution that has no digest. If its container is not known it is
// logged of each container.
func (x *Manager) missed(h *gate.HeldExec, why error) {
	x.Counts.Missed.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), logTimeout)
	defer cancel()
	e := logs.ExecBody{Missed: publicReason(why)}
	if h != nil {
		e.Path = h.Path()
	}
	for _, w := range x.concerned(ctx, h) {
		if w.budgetSpent.Load() {
			continue
		}
		x.Log.Warn("an execution was not measured", "container", w.owner, "path", e.Path, "error", why)
		x.gap(ctx, w, e)
	}
}

func (x *Manager) concerned(ctx context.Context, h *gate.HeldExec) []*watchedRoot {
	if h == nil {
		return x.all()
	}
	if c, err := x.Peers.IdentifyProcess(ctx, h.PID, h.PIDFD); err == nil {
		defer c.Close()
		if c.Container == nil {
			return nil
		}
		if w := x.of(c.Container.Owner(c.CgroupOwner)); w != nil {
			if traits, err := x.Peers.TraitsOf(h.PID, h.PIDFD); err == nil && w == x.on(h.Device()) && w.cgroupInode.Load() == c.CgroupInode {
				w.remember(traits) // what follows is known to be its own (owns)
			}
			return []*watchedRoot{w}
		}
	}
	if w := x.on(h.Device()); w != nil {
		return []*watchedRoot{w}
	}
	return x.all()
}
