package daemon

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/cima-project/cima/daemon/api"
	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/execs"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/daemon/services"
)

// Serve answers on the sockets until ctx ends. Then it answers the requests that were
// read, and returns.
func (d *Daemon) Serve(ctx context.Context, sockets Sockets) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.openGate(ctx)()
	callers := d.api.CallerServer()
	ended := make(chan error, 3)
	servers := 1
	go func() { ended <- callers.Serve(ctx, sockets.Caller) }()
	if sockets.Admin != nil {
		servers++
		admin := d.api.AdminServer()
		go func() { ended <- admin.Serve(ctx, sockets.Admin) }()
	}
	if sockets.Lookup != nil {
		servers++
		lookup := api.LookupServer(d.api)
		go func() { ended <- lookup.Serve(ctx, sockets.Lookup) }()
	}
	d.notify(sd.SdNotifyReady)
	d.log.Info("ready", "socket", sockets.Caller.Addr().String(), "boot_id", d.bootID)
	go d.watchdog(ctx, d.touchLocks)
	var background sync.WaitGroup
	background.Go(func() { d.containers.Survey(ctx, d.engine) })
	background.Go(func() { d.reloadOnHUP(ctx) })
	background.Go(func() {
		services.NewWatcher(d.ledger, d.log).Watch(ctx, func() []config.SystemRule { return d.config().System })
	})
	background.Go(func() {
		if d.osLog == nil {
			oslog.Anchor(ctx, d.opts.imaDir(), d.ledger, func() config.IMA { return d.config().IMA }, d.log)
		}
	})
	var notBegun error
	background.Go(func() {
		if notBegun = d.waitBegun(ctx); notBegun != nil {
			cancel() // no evidence could ever be given
		}
	})

	var failed error
	for range servers {
		err := <-ended
		cancel() // when one server ends, the other must: half a daemon is worse than none
		d.notify(sd.SdNotifyStopping)
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
			failed = errors.Join(failed, err)
		}
	}
	background.Wait()
	d.log.Info("stopped")
	return errors.Join(notBegun, failed)
}

// openGate begins to measure executions and starts, if the configuration wants that.
// closeAll ends both.
func (d *Daemon) openGate(ctx context.Context) (closeAll func()) {
	d.execs = execs.Open(ctx, execs.Options{
		Ledger: d.ledger, Records: d.store, Instances: d.containers, Peers: d.peers, Config: d.config,
		Log: d.log, IMADir: d.opts.imaDir(), HostRoot: d.hostRoot, Hashing: d.hashing,
	})
	if d.execs != nil {
		d.containers.SetExecs(d.execs)
	}
	g := d.containers.OpenGate(ctx, d.opts.usualRuntimes())
	return func() {
		g.Close()
		d.execs.Close()
	}
}

// execCounts are what happened to executions so far.
func (d *Daemon) execCounts() *execs.Counts {
	if d.execs == nil {
		return new(execs.Counts)
	}
	return &d.execs.Counts
}

// notify sends a state to the service manager, if there is one.
func (d *Daemon) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.log.Warn("the service manager was not notified", "state", state, "error", err)
	}
}

// watchdog notifies the service manager that the daemon lives, as long as touchLocks
// returns. Hardware that hangs is no reason for a restart: it would hang for the next
// daemon too, and this daemon answers that it hangs.
func (d *Daemon) watchdog(ctx context.Context, touchLocks func()) {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		touchLocks()
		bounded, cancel := context.WithTimeout(ctx, interval/3)
		if err := d.ledger.Check(bounded); err != nil {
			d.log.Debug("watchdog", "error", err) // the log is in doubt; the daemon does not hang
		}
		cancel()
		d.notify(sd.SdNotifyWatchdog)
	}
}

// touchLocks takes the locks that every answer needs.
func (d *Daemon) touchLocks() {
	d.ledger.Status()
	d.containers.Count()
}
