package containers

import (
	"context"
	"time"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// missedTimeout is how long logging a missed start may wait for its turn.
const missedTimeout = 10 * time.Second

// missed logs that a runtime went on, or was refused, without being measured. It takes
// nothing away from other containers: what counts as gated is decided at START.
func (g *Gate) missed(h *gate.HeldExec, why error) {
	g.m.Counts.Missed.Add(1)
	if h != nil {
		g.letFirst(h) // it was the first exec of a container, if any of that is held
	}
	ctx, cancel := context.WithTimeout(context.Background(), missedTimeout)
	defer cancel()
	if h != nil {
		g.m.Log.Warn("a runtime was not measured", "pid", h.PID, "error", why)
	} else {
		g.m.Log.Warn("runtimes were not measured", "error", why)
	}
	if err := g.m.Ledger.Missed(ctx, logs.MissedLaunch, gate.PublicReason(why, ledger.ErrFull, errNoInit, errNoFIFO, records.ErrTwice)); err != nil {
		g.m.Log.Error("a gap could not be logged", "error", err)
	}
}

// skipPresent passes over bundles that are there already and whose containers don't run:
// most ran before. One that is just being made is measured at START.
func (g *Gate) skipPresent(ctx context.Context) {
	list, err := g.m.Records().List(ctx)
	if err != nil {
		g.m.Log.Warn("containers that are there already can't be listed", "error", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rec := range list {
		if b := g.bundle(rec); b.launch == notBegun {
			b.launch = done
		}
	}
}
