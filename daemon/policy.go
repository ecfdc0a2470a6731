package daemon

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// config is the configuration in force.
func (d *Daemon) config() *config.Config { return d.policy.Load() }

// store reads records as the configuration in force wants them.
func (d *Daemon) store() *records.Store { return d.records.Load() }

// adopt makes a configuration the one in force.
func (d *Daemon) adopt(c config.Config) {
	d.policy.Store(&c)
	if d.opts.Records != nil {
		d.records.Store(d.opts.Records)
		return
	}
	d.records.Store(records.New(launchOptions(c, d.hostRoot)))
}

// policyOf tells all which policy is in force from here on.
func policyOf(c *config.Config) (ledger.Event, error) {
	digest, err := c.Digest()
	return ledger.Event{Operation: logs.OpPolicy, Measured: logs.PolicyBody{SHA384: digest}}, err
}

// Reload reads the configuration again. A bad file keeps the old one. Limits
// of the server itself, sockets of engines and the anchor are what they were
// until the daemon is started anew.
func (d *Daemon) Reload(ctx context.Context) error {
	if d.opts.ConfigFile == "" {
		return nil
	}
	c, err := config.Load(d.opts.ConfigFile)
	if err != nil {
		return err
	}
	if c.Anchor != d.config().Anchor {
		return fmt.Errorf("%s: anchor can't be changed while the daemon runs: restart it", d.opts.ConfigFile)
	}
	if err := d.budget().Check(&c.Limits); err != nil {
		return fmt.Errorf("%s: %w", d.opts.ConfigFile, err)
	}
	// Told first: no evidence is given under a policy that the log hasn't.
	e, err := policyOf(&c)
	if err != nil {
		return err
	}
	if _, err := d.ledger.AppendUntil(ctx, e); err != nil {
		return err
	}
	d.adopt(c)
	d.ledger.SetLimits(c.LogLimits(d.budget()))
	d.api.Reload(c.Limits)
	return nil
}

// reloadOn reloads whenever SIGHUP comes (systemctl reload).
func (d *Daemon) reloadOn(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		d.notify(reloading())
		if err := d.Reload(ctx); err != nil {
			d.log.Error("the configuration was not taken; the old one stays in force", "error", err)
		} else {
			d.log.Info("configuration reloaded")
		}
		d.notify("READY=1")
	}
}

// reloading is the state that sd_notify(3) wants, with its time.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
