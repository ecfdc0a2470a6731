package containers

import (
	"context"
	"time"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// missedTimeout is how long logging a missed start may wait for its turn.
const missedTimeout = 10 * time.Second

// missed logs that a runtime went on, or was refused, without being measured.
// Bundles that are new and undecided by now can't count as gated any more.
func (g *Gate) missed(h *gate.HeldExec, why error) {
	g.m.Counts.Missed.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), missedTimeout)
	defer cancel()
	g.skipPresent(ctx)
	if h != nil {
		g.m.Log.Warn("a runtime was not measured", "pid", h.PID, "error", why)
	} else {
		g.m.Log.Warn("runtimes were not measured", "error", why)
	}
	if err := g.m.Ledger.Missed(ctx, logs.MissedLaunch, gate.PublicReason(why, ledger.ErrFull)); err != nil {
		g.m.Log.Error("a gap could not be logged", "error", err)
	}
}

// skipPresent passes over bundles that are there already: nobody can tell whether
// their containers run, ran, or are just starting.
func (g *Gate) skipPresent(ctx context.Context) {
	list, err := g.m.Records().List(ctx)
	if err != nil {
		g.m.Log.Warn("containers that are there already can't be listed", "error", err)
	}
	decided := make(chan struct{})
	close(decided)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rec := range list {
		if g.starts[rec.StartKey()] == nil {
			g.starts[rec.StartKey()] = decided
		}
	}
}
