package daemon

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// unmeasured says in the log of each container that lives, and whose executions
// were measured so far, that they are not any more: its exec events would pass for
// all that there is. Who is launched later has none. Where that can't be logged it
// is said of all.
func (g *gated) unmeasured(ctx context.Context) {
	for owner, l := range g.d.ledger.Open() {
		if !l.Execs {
			continue
		}
		if err := g.sayUnmeasured(ctx, owner, l.Instance); err != nil {
			g.d.log.Error("that executions are not measured any more is not logged", "container", owner, "error", err)
			ctx, cancel := context.WithTimeout(ctx, missedTime)
			defer cancel()
			g.d.ledger.Missed(ctx, logs.MissedExec, reason(errUnmeasured)) // else it is told before the next event
			return
		}
	}
}

func (g *gated) sayUnmeasured(ctx context.Context, owner, instance string) error {
	events, err := g.d.ledger.Events(owner)
	if err != nil {
		return err
	}
	gap := logs.ExecBody{Missed: reason(errUnmeasured)}
	said := false
	for _, e := range events {
		if e.Operation == logs.OpExec {
			var x logs.ExecBody
			said = json.Unmarshal(e.Body(), &x) == nil && x == gap
		}
	}
	if said { // by the last one
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, missedTime)
	defer cancel()
	event := ledger.Event{Operation: logs.OpExec, Owner: owner, Instance: instance, Measured: gap}
	if _, err = g.d.ledger.AppendUntil(ctx, event); !errors.Is(err, ledger.ErrSpent) {
		return err
	}
	event.Last = true
	if _, err = g.d.ledger.AppendUntil(ctx, event); errors.Is(err, ledger.ErrSpent) {
		return nil // that more is missing is its last event already
	}
	return err
}
