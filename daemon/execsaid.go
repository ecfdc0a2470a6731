package daemon

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

// saidOnce is what is logged once.
type saidOnce struct {
	logs.ExecBody
	digest rpc.Digest
}

func keyOf(e logs.ExecBody) saidOnce {
	key := saidOnce{ExecBody: e}
	if e.SHA384 != nil { // one content may have many names, and fs-verity's digest follows from it
		key.digest, key.SHA384, key.Verity, key.Path = *e.SHA384, nil, "", ""
	}
	return key
}

// say logs an event of a container, once per content.
func (x *execs) say(ctx context.Context, w *watchedRoot, e logs.ExecBody) error {
	return x.sayOnce(ctx, w, ledger.Event{Measured: e}, e)
}

func (x *execs) sayOnce(ctx context.Context, w *watchedRoot, event ledger.Event, e logs.ExecBody) error {
	key := keyOf(e)
	if _, ok := w.said.Load(key); ok {
		return nil
	}
	if err := w.saying.take(ctx); err != nil {
		return gate.ErrDeadline
	}
	defer w.saying.give()
	if _, ok := w.said.Load(key); ok {
		return nil
	}
	event.Operation, event.Owner, event.Instance = logs.OpExec, w.owner, w.logged()
	if _, err := x.g.d.ledger.AppendUntil(ctx, event); err != nil {
		return err
	}
	w.said.Store(key, true)
	return nil
}

// logged is the instance as the log names it.
func (w *watchedRoot) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.instance
}

// gap says that something of a container has no digest. What can't be logged
// now is owed: no evidence of the container is given before it is.
func (x *execs) gap(ctx context.Context, w *watchedRoot, e logs.ExecBody) {
	err := x.sayGap(ctx, w, e)
	if err == nil {
		return
	}
	x.g.d.log.Error("what was missed is not logged yet", "container", w.owner, "error", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owed != nil && *w.owed != e {
		e = logs.ExecBody{Missed: reason(err)} // more than one: that there are is enough
	}
	w.owed = &e
	w.owes.Store(true)
}

// sayGap logs it in the container's own register; past its share of the log
// once, and then that there is more; and for all where the log takes nothing
// of containers any more.
func (x *execs) sayGap(ctx context.Context, w *watchedRoot, e logs.ExecBody) error {
	err := ledger.ErrSpent
	if e.Missed != ledger.ErrFull.Error() {
		err = x.say(ctx, w, e)
	}
	if errors.Is(err, ledger.ErrSpent) {
		full := logs.ExecBody{Missed: ledger.ErrFull.Error()}
		err = x.sayOnce(ctx, w, ledger.Event{Measured: full, Last: true}, full)
		if err == nil || errors.Is(err, ledger.ErrSpent) { // a former run of the daemon said it
			w.spent.Store(true)
			return nil
		}
	}
	switch {
	case errors.Is(err, ledger.ErrReplaced):
		return nil // nobody can have evidence of that instance any more
	case errors.Is(err, ledger.ErrFull):
		return x.sayAll(ctx, w, err)
	}
	return err
}

func (x *execs) sayAll(ctx context.Context, w *watchedRoot, why error) error {
	if w.spent.Load() {
		return nil
	}
	err := x.g.d.ledger.Missed(ctx, logs.MissedExec, reason(why))
	w.spent.Store(err == nil)
	return err
}

// owedRetry is how long a caller is asked to wait for what is owed.
const owedRetry = time.Second

// settle logs what is owed of a container, and says why it can't.
func (x *execs) settle(ctx context.Context, owner string) error {
	ctx, cancel := x.g.d.inTime(ctx)
	defer cancel()
	if x.ima != nil {
		if err := x.settleIMA(ctx); err != nil {
			return rpc.NotReady(owedRetry, "not all that was executed is logged yet: ask again").Because(err)
		}
	}
	w := x.of(owner)
	if x.ima != nil && !strings.Contains(owner, "/") && (w == nil || !x.current(w)) {
		return rpc.NotReady(owedRetry, "what was executed before the container was seen isn't logged yet: ask again")
	}
	if w == nil {
		return nil
	}
	if x.roots != nil && x.roots.Unreported() { // maybe of this one
		return rpc.NotReady(owedRetry, "not all that was executed is logged yet: ask again")
	}
	if !w.owes.Load() {
		return nil
	}
	w.mu.Lock()
	owed := w.owed
	w.mu.Unlock()
	if owed == nil {
		return nil
	}
	if err := x.sayGap(ctx, w, *owed); err != nil {
		return rpc.NotReady(owedRetry, "not all that was executed is logged yet: ask again").Because(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.owed == owed { // else there is more by now
		w.owed = nil
		w.owes.Store(false)
	}
	if w.owed != nil {
		return rpc.NotReady(owedRetry, "not all that was executed is logged yet: ask again")
	}
	return nil
}

// current says that it is of the instance that was logged last.
func (x *execs) current(w *watchedRoot) bool {
	s, err := x.g.d.ledger.Snapshot(w.owner)
	return err == nil && s.Owner.Instance == w.logged()
}

// missed logs an exec that has no digest. Where the container is not known it
// is said of each.
func (x *execs) missed(h *gate.HeldExec, why error) {
	x.counts.missed.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), missedTime)
	defer cancel()
	e := logs.ExecBody{Missed: reason(why)}
	if h != nil {
		e.Path = h.Path()
	}
	for _, w := range x.concerned(ctx, h) {
		if w.spent.Load() {
			continue
		}
		x.g.d.log.Warn("an execution was not measured", "container", w.owner, "path", e.Path, "error", why)
		x.gap(ctx, w, e)
	}
}

func (x *execs) concerned(ctx context.Context, h *gate.HeldExec) []*watchedRoot {
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
	all := x.all()
	if h == nil {
		return all
	}
	if w := x.on(h.Device()); w != nil {
		return []*watchedRoot{w}
	}
	return all
}

func (x *execs) all() (all []*watchedRoot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.watched {
		all = append(all, w)
	}
	return all
}
