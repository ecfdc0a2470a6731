package daemon

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// config is the configuration in force.
func (d *Daemon) config() *config.Config { return d.policy.Load() }

// store is the record store of the configuration in force.
func (d *Daemon) store() *records.Store { return d.records.Load() }

// adopt puts a configuration in force.
func (d *Daemon) adopt(c config.Config) {
	d.policy.Store(&c)
	if d.opts.Records != nil {
		d.records.Store(d.opts.Records)
		return
	}
	o := launchOptions(c, d.hostRoot)
	o.SocketDir, o.Hashing = d.opts.SocketDir, d.hashing
	d.records.Store(records.New(o))
}

// policyOf makes the policy event of a configuration.
func policyOf(c *config.Config) (ledger.Event, error) {
	digest, err := c.Digest()
	return ledger.Event{Operation: logs.OpPolicy, Measured: logs.PolicyBody{
		SHA384: digest, Data: c.Launch.Data, DataRead: c.Launch.DataRead, Public: c.Launch.Public,
	}}, err
}

// reload reads the configuration file again and puts it in force. With a bad file the
// old configuration stays in force. The limits of the servers, the sockets of engines
// and the anchor change only when the daemon starts again.
func (d *Daemon) reload(ctx context.Context) error {
	if d.opts.ConfigFile == "" {
		return nil
	}
	c, err := config.Load(d.opts.ConfigFile)
	if err != nil {
		return err
	}
	if err := c.OnPlatform(d.opts.TEE.Parts().Anchor); err != nil {
		return fmt.Errorf("%s: %w", d.opts.ConfigFile, err)
	}
	if c.Anchor != d.config().Anchor || c.PCR != d.config().PCR {
		return fmt.Errorf("%s: anchor and pcr must not change while the daemon runs: restart the daemon to change the anchor, and the machine to change the PCR", d.opts.ConfigFile)
	}
	if err := d.budget().Check(&c.Limits); err != nil {
		return fmt.Errorf("%s: %w", d.opts.ConfigFile, err)
	}
	// Logged first: no evidence is given under a policy that the log doesn't hold.
	e, err := policyOf(&c)
	if err != nil {
		return err
	}
	if _, err := d.ledger.AppendUntil(ctx, e); err != nil {
		return err
	}
	// The servers keep the reply limit of the start, so evidence must fit into that.
	c.Limits.EvidenceReply = d.opts.Config.Limits.EvidenceReply
	d.adopt(c)
	d.ledger.SetLimits(c.LogLimits(d.budget()))
	d.api.Reload(c.Limits)
	return nil
}

// reloadOnHUP reloads when SIGHUP comes (systemctl reload).
func (d *Daemon) reloadOnHUP(ctx context.Context) {
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
		if err := d.reload(ctx); err != nil {
			d.log.Error("the configuration was not taken; the old one stays in force", "error", err)
		} else {
			d.log.Info("configuration reloaded")
		}
		d.notify(sd.SdNotifyReady)
	}
}

// reloading is the state that a unit of Type=notify-reload sends when it reloads
// (sd_notify(3)).
func reloading() string { return sd.SdNotifyReloading + "\n" + sd.SdNotifyMonotonicUsec() }
