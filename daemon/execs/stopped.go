package execs

import (
	"context"
	"encoding/json/v2"
	"errors"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// logStopped logs of each container that lives, and whose executions were measured
// so far, that they are not measured any more: its exec events would pass for all
// that there is. If that can't be logged, a public event says it of all.
func (x *Manager) logStopped(ctx context.Context) {
	for owner, l := range x.Ledger.Open() {
		if !l.Execs {
			continue
		}
		if err := x.logStoppedOf(ctx, owner, l.Instance); err != nil {
			x.Log.Error("that executions are not measured any more is not logged", "container", owner, "error", err)
			ctx, cancel := context.WithTimeout(ctx, logTimeout)
			defer cancel()
			x.Ledger.Missed(ctx, logs.MissedExec, publicReason(errNotMeasured)) // else it is logged before the next event
			return
		}
	}
}

func (x *Manager) logStoppedOf(ctx context.Context, owner, instance string) error {
	events, err := x.Ledger.Events(owner)
	if err != nil {
		return err
	}
	gap := logs.ExecBody{Missed: publicReason(errNotMeasured)}
	logged := false // by the last exec event
	for _, e := range events {
		if e.Operation == logs.OpExec {
			var last logs.ExecBody
			logged = json.Unmarshal(e.Body(), &last) == nil && last == gap
		}
	}
	if logged {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	event := ledger.Event{Operation: logs.OpExec, Owner: owner, Instance: instance, Measured: gap}
	if _, err = x.Ledger.AppendUntil(ctx, event); !errors.Is(err, ledger.ErrSpent) {
		return err
	}
	event.Last = true
	if _, err = x.Ledger.AppendUntil(ctx, event); errors.Is(err, ledger.ErrSpent) {
		return nil // its last event says already that more is missing
	}
	return err
}
