package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cima-project/cima/daemon/abandon"
	"github.com/cima-project/cima/daemon/fifo"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// starting returns the containers that are made and not judged, and that the held
// runtime may start. If it is known which one it starts, that one alone is returned, and
// the runtime waits until its first process is ready. If its command is not known, or
// names no container that is known, all that are ready are judged, and the runtime waits
// for none.
func (g *Gate) starting(list []records.Record, h heldRuntime) (starting []records.Record, wait bool) {
	c := h.Command()
	if c.Name != "" && c.Name != "start" {
		return nil, false
	}
	var named, ready []records.Record
	for _, rec := range list {
		switch {
		case rec.UID != 0:
		case c.Names(rec.ID), c.Name == "" && h.Names(rec.Bundle, rec.ID) && hasFIFO(rec):
			named = append(named, rec)
		case rec.Err == nil && hasFIFO(rec):
			ready = append(ready, rec)
		}
	}
	// One of another engine may have the same id: neither stands for the other.
	other := func(rec records.Record) bool { return c.Name != "" && !c.KeepsIn(rec.StateDir) }
	if slices.ContainsFunc(named, func(rec records.Record) bool { return !other(rec) }) {
		named = slices.DeleteFunc(named, other)
	}
	if len(named) > 0 {
		return slices.DeleteFunc(named, g.isJudged), true
	}
	return slices.DeleteFunc(ready, g.isJudged), false
}

// hasFIFO reports whether a container is made and not started, as far as its runtime's
// directory shows it.
func hasFIFO(rec records.Record) bool {
	if rec.StateDir == "" {
		return false
	}
	_, err := fifo.In(rec.StateDir)
	return err == nil
}

// isJudged reports whether the first process of a container is judged.
func (g *Gate) isJudged(rec records.Record) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.bundles[rec.StartKey()]
	return b != nil && b.start == done && b.init == rec.InitPID
}

// start judges a container whose first process waits to be started. Where that doesn't
// wait yet, gate.ErrAgain is returned if wait is set. A process that is gone is not
// judged: nothing of it will run.
func (g *Gate) start(ctx context.Context, rec records.Record, wait bool) error {
	if rec.Err != nil {
		return rec.Err
	}
	init, err := openInit(rec)
	switch {
	case errors.Is(err, procfs.ErrEnded):
		return nil
	case err != nil:
		return fmt.Errorf("container %.12s is not judged: %w", rec.Name, err)
	}
	defer init.close()
	switch {
	case g.isMeasuring(rec) && wait:
		return gate.ErrAgain
	case g.isMeasuring(rec):
		return nil
	case init.waits():
	case wait && procfs.Alive(init.PIDFD) == nil:
		return gate.ErrAgain
	default:
		return nil
	}
	if !g.beginJudging(rec) {
		if wait && !g.isJudged(rec) {
			return gate.ErrAgain
		}
		return nil
	}
	judged := g.judge(ctx, rec, init.Init, init.waits)
	g.mu.Lock()
	defer g.mu.Unlock()
	if b := g.bundle(rec); judged == nil {
		b.start = done
	} else {
		b.start = notBegun // the next exec of a runtime tries again
	}
	return judged
}

// beginJudging reports whether nobody judges the container's first process, or has.
func (g *Gate) beginJudging(rec records.Record) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.bundle(rec)
	if b.start == underWay || b.start == done && b.init == rec.InitPID {
		return false
	}
	b.start, b.init = underWay, rec.InitPID
	return true
}

// judge logs what the kernel shows of a container that is about to start, and confirms
// its launch: all of it was logged before the container's first instruction. waits
// reports whether nothing of the container has run yet.
func (g *Gate) judge(ctx context.Context, rec records.Record, init power.Init, waits func() bool) error {
	m := g.m
	gated, err := g.ensureLaunched(ctx, rec)
	if err != nil {
		return err
	}
	verdict, err := m.judge(ctx, rec, init)
	if err != nil {
		return err
	}
	verdict.Classes = append(verdict.Classes, g.told.Of(rec)...)
	mounted, err := newMounted(verdict)
	if err != nil {
		return err
	}
	deferred := m.deferred.holds(rec.Name, rec.StartKey())
	if gated && !deferred {
		if err := m.logMounted(ctx, rec.Name, rec.InstanceID(0), mounted); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return gate.ErrDeadline
	}
	// Whatever became of the runtime that was held: while the first process waits,
	// nothing of the container has run.
	if !waits() {
		return gate.ErrLetGo
	}
	switch {
	case deferred:
		m.deferred.judged(rec.Name, rec.StartKey(), mounted, verdict.Classes)
		return nil
	case gated:
		return m.confirmed.Confirm(rec.Name, rec.InstanceID(0), verdict.Classes...)
	}
	m.unlogged.Judge(rec.Name, rec.StartKey())
	return nil
}

// ensureLaunched logs the launch of a container that is about to start, where that
// wasn't done when it was made: no daemon ran then, or the gate missed it. False: the
// launch is logged as observed already, and stays so; or the log has no space for it.
func (g *Gate) ensureLaunched(ctx context.Context, rec records.Record) (gated bool, err error) {
	switch {
	case g.m.deferred.holds(rec.Name, rec.StartKey()):
		return true, nil
	case g.m.unlogged.Holds(rec.Name, rec.StartKey()):
		return false, nil
	}
	at, err := g.m.Ledger.Snapshot(rec.Name)
	if err != nil {
		return false, err
	}
	switch logged := at.Owner.Instance; {
	case logged == rec.InstanceID(0):
		return true, nil
	case logged != "" && rec.Wrote(logged):
		return false, nil
	}
	if err := g.launch(ctx, rec); err != nil {
		return false, err
	}
	return !g.m.unlogged.Holds(rec.Name, rec.StartKey()), nil
}

// judge logs the classes of power that a container's first process shows beyond those
// of its specification.
func (m *Manager) judge(ctx context.Context, rec records.Record, init power.Init) (power.Verdict, error) {
	verdict, err := abandon.Do(ctx, &m.calls, rec.Name, func() (power.Verdict, error) { return m.Records().Judge(ctx, rec, init) })
	if err != nil {
		return verdict, fmt.Errorf("judge container %.12s: %w", rec.Name, err)
	}
	if len(verdict.Classes) == 0 {
		return verdict, nil
	}
	known, err := m.Records().Power(ctx, rec)
	if err != nil {
		return verdict, fmt.Errorf("power of container %.12s: %w", rec.Name, err)
	}
	fresh := slices.DeleteFunc(slices.Clone(verdict.Classes), func(class string) bool { return slices.Contains(known, class) })
	return verdict, m.announce(ctx, rec.Name, fresh)
}

// newMounted makes the body of a mounted event; nil: there is nothing to log.
func newMounted(v power.Verdict) (*logs.MountedBody, error) {
	if len(v.Mounted) == 0 {
		return nil, nil
	}
	body, err := logs.NewMountedBody(v.Mounted)
	return &body, err
}

func (m *Manager) logMounted(ctx context.Context, owner, instance string, body *logs.MountedBody) error {
	if body == nil {
		return nil
	}
	_, err := m.Ledger.Append(ctx, ledger.Event{Operation: logs.OpMounted, Owner: owner, Instance: instance, Measured: body})
	return err
}

// announceUnseen announces that a container of root's engine started unjudged, and what
// its first process shows now. That process has run, and may hide what it likes: so the
// class says that it was not seen, and a failure to look is no failure.
func (m *Manager) announceUnseen(ctx context.Context, owner string, rec records.Record) error {
	if rec.UID != 0 {
		return nil // a rootless engine's: it has its user's power
	}
	if err := m.announce(ctx, owner, []string{power.UnseenStart}); err != nil {
		return err
	}
	init, err := openProcess(rec)
	init.Ran = true
	if err == nil {
		_, err = m.judge(ctx, rec, init)
		closeProcess(init)
	}
	if err != nil && !errors.Is(err, procfs.ErrEnded) {
		m.Log.Warn("a container that runs was not judged", "container", owner, "error", err)
	}
	return ctx.Err()
}
