package daemon

import (
	"bytes"
	"context"
	"time"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// unlogged is a launch of a crash loop: measured at the gate, equal to the one
// that is logged last of its container, and not logged itself yet. That one
// binds what is about to run; this one is logged when it is asked for, so that
// an instance's evidence always holds a launch of its own.
type unlogged struct {
	record string // the writing of it
	launch launch.Launch
}

// repeats says that a container in a crash loop is about to run what the log says
// of it already. Where executions are measured each start is logged, for
// executions are held against an instance that the log knows.
func (g *gated) repeats(rec records.Record, l launch.Launch) (bool, error) {
	if g.execs != nil || !g.d.starts.loop(rec.ID, time.Now()) {
		return false, nil
	}
	at, err := g.d.ledger.Snapshot(rec.ID)
	if err != nil || at.Owner.Instance == "" {
		return false, err
	}
	last, err := g.d.ledger.Held(rec.ID, at.Owner.Instance, 0, 1)
	if err != nil || len(last) == 0 || last[0].Operation != logs.OpLaunch {
		return false, err
	}
	if l, err = launch.Condense(l, maxLaunch); err != nil {
		return false, err
	}
	form, err := canonical.Marshal(l)
	return bytes.Equal(form, last[0].Body()), err
}

// keep has a launch logged later, if it is asked for.
func (g *gated) keep(rec records.Record, l launch.Launch) {
	g.counts.repeated.Add(1)
	g.d.log.Info("container measured as before, in a crash loop", "container", rec.ID, "runtime", rec.Runtime)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unlogged[rec.ID] = unlogged{startKey(rec), l}
}

// logKept logs the launch that was kept of an instance, false where none was: the
// gate didn't see it, or logged it.
func (g *gated) logKept(ctx context.Context, owner string, rec records.Record) (kept bool, err error) {
	u, ok := g.take(owner, startKey(rec))
	if !ok {
		return false, nil
	}
	if err = g.d.appendLaunch(ctx, owner, instanceID(rec, 0), rec, u.launch); err == nil {
		err = g.adoptions.confirm(owner, instanceID(rec, 0))
	}
	if err != nil {
		g.putBack(owner, u)
	}
	return true, err
}

// take returns what was kept of a start, once: two instances of one record are
// not both what the gate saw.
func (g *gated) take(owner, record string) (unlogged, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	u, ok := g.unlogged[owner]
	if !ok || u.record != record {
		return unlogged{}, false
	}
	delete(g.unlogged, owner)
	return u, true
}

func (g *gated) putBack(owner string, u unlogged) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, newer := g.unlogged[owner]; !newer {
		g.unlogged[owner] = u
	}
}
