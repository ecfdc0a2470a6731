package daemon

import (
	"context"
	"time"

	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// skipPresent passes over bundles that are there already: whether their
// containers run, ran, or just start, nobody can tell.
func (g *gated) skipPresent(ctx context.Context) {
	records, err := g.d.store().List(ctx)
	if err != nil {
		g.d.log.Warn("containers that are there already can't be listed", "error", err)
	}
	done := make(chan struct{})
	close(done)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rec := range records {
		if g.starts[startKey(rec)] == nil {
			g.starts[startKey(rec)] = done
		}
	}
}

// missedTime is how long logging what was missed may wait for its turn.
const missedTime = 10 * time.Second

// missed logs that some runtime went on, or was refused, unmeasured. What is
// new and undecided by now can't count as gated any more.
func (g *gated) missed(h *gate.HeldExec, why error) {
	g.counts.missed.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), missedTime)
	defer cancel()
	g.skipPresent(ctx)
	if h != nil {
		g.d.log.Warn("a runtime was not measured", "pid", h.PID, "error", why)
	} else {
		g.d.log.Warn("runtimes were not measured", "error", why)
	}
	if err := g.d.ledger.Missed(ctx, logs.MissedLaunch, reason(why)); err != nil {
		g.d.log.Error("what was missed is not logged", "error", err)
	}
}

// reason is an error as all may read it: without the container's facts.
func reason(err error) string {
	return gate.PublicReason(err, ledger.ErrFull, errRanBefore, errNobody, errIMALost, errUnmeasured)
}
