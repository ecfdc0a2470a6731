package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// announceRetry is how soon an announcement that failed is tried again.
const announceRetry = 500 * time.Millisecond

// announce logs the public events that every start has, before any other event:
// the agent's key must be in the log before what it signs. A register that
// fails is no reason not to run, and it may work again.
func (d *Daemon) announce(ctx context.Context) {
	defer close(d.begun)
	for _, e := range []func(context.Context) error{d.logStart, d.logPolicyInForce, d.logSeal} {
		for failed := false; ; failed = true {
			err := e(ctx)
			if err == nil {
				break
			}
			var inconsistent *ledger.InconsistentError
			if errors.As(err, &inconsistent) || errors.Is(err, ledger.ErrFull) {
				d.log.Error("the daemon's start is not in the log", "error", err)
				return // the log says so to whoever asks
			}
			if !failed {
				d.log.Warn("the daemon's start is not in the log yet", "error", err)
			}
			pause(ctx, announceRetry)
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// announced waits until the start is in the log.
func (d *Daemon) announced(ctx context.Context) error {
	select {
	case <-d.begun:
		return nil
	default:
	}
	ctx, cancel := d.inTime(ctx)
	defer cancel()
	select {
	case <-d.begun:
		return nil
	case <-ctx.Done():
		return rpc.TEEUnavailable(ctx.Err(), "the daemon's own start is not in the log yet, for the register does not answer: ask again later")
	}
}

func (d *Daemon) logStart(ctx context.Context) error {
	_, err := d.ledger.Append(ctx, ledger.Event{Operation: logs.OpStart, Measured: startEvent{
		Version: d.opts.Version, Executable: d.opts.Executable, AgentKey: d.key.public(), BootID: d.bootID,
	}})
	return err
}

func (d *Daemon) logPolicyInForce(ctx context.Context) error {
	e, err := policyOf(d.config())
	if err != nil {
		return err
	}
	_, err = d.ledger.Append(ctx, e)
	return err
}

func (d *Daemon) logSeal(ctx context.Context) error {
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
	_, err = d.ledger.Append(ctx, ledger.Event{
		Operation: logs.OpSeal, Measured: sealEvent{Engines: d.engines(), Running: running},
	})
	return err
}

// startEvent is measured.start: event 0, and again whenever the daemon starts.
type startEvent struct {
	Version    string     `json:"version"`
	Executable rpc.Digest `json:"executable"`
	AgentKey   []byte     `json:"agent_key"` // 32-byte Ed25519 public key
	BootID     string     `json:"boot_id"`
}

// sealEvent is measured.seal: what was there when the daemon became ready.
type sealEvent struct {
	Engines []string `json:"engines"`
	Running int      `json:"running"` // containers started before they could be watched
}

// engines are the engines whose sockets exist. They are not asked anything.
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
