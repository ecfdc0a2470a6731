package daemon

import (
	"context"
	"os"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// begin logs the three public events of every start before any other event: the
// agent's key must be in the log before evidence that it signs.
func (d *Daemon) begin(ctx context.Context) error {
	return d.ledger.Begin(ctx, d.startEvent, d.policyEvent, d.sealEvent)
}

// waitBegun waits until the start is logged, and returns why it never will be.
func (d *Daemon) waitBegun(ctx context.Context) error {
	select {
	case <-d.begun:
		return d.notBegun
	case <-ctx.Done():
		return nil
	}
}

func (d *Daemon) startEvent(ctx context.Context) (ledger.Event, error) {
	body := logs.StartBody{
		Version: d.opts.Version, Executable: d.opts.Executable, AgentKey: logs.AgentKey(d.key.public()), BootID: d.bootID,
	}
	if d.config().Anchor == logs.AnchorPCR {
		first, err := d.ledger.First(ctx)
		if err != nil {
			return ledger.Event{}, err
		}
		body.Register = &logs.RegisterBody{PCR: d.config().PCR, First: first.Form()}
	}
	return ledger.Event{Operation: logs.OpStart, Measured: body}, nil
}

func (d *Daemon) policyEvent(context.Context) (ledger.Event, error) { return policyOf(d.config()) }

func (d *Daemon) sealEvent(ctx context.Context) (ledger.Event, error) {
	records, err := d.store().List(ctx)
	if err != nil {
		d.log.Warn("containers that run already can't be listed", "error", err)
	}
	running := 0
	for _, rec := range records {
		if rec.Err == nil && rec.InitPID != 0 {
			running++
		}
	}
	return ledger.Event{Operation: logs.OpSeal, Measured: logs.SealBody{Engines: d.engines(), Running: running}}, nil
}

// engines are the engines whose sockets exist. They are not asked.
func (d *Daemon) engines() []string {
	found := []string{}
	for _, e := range []struct{ name, socket string }{
		{"docker", d.config().Engines.Docker},
		{"podman", d.config().Engines.Podman},
	} {
		if fi, err := os.Stat(e.socket); err == nil && fi.Mode().Type() == os.ModeSocket {
			found = append(found, e.name)
		}
	}
	return found
}
