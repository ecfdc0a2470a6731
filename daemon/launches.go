package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// instanceID names an instance on disk: which writing of the record, and
// which cgroup: 0 where it was measured at the gate, before there was one.
func instanceID(rec records.Record, inode uint64) string {
	s := rec.Stamp
	return fmt.Sprintf("%x.%x.%x/%x", s.Device, s.Inode, s.Changed, inode)
}

func (d *Daemon) logLaunch(ctx context.Context, i *instance, rec records.Record, still func(context.Context) error) error {
	// The record was read after the container was named: is it still its own?
	if err := still(ctx); err != nil {
		return refusal(err)
	}
	if kept, err := d.gated.logKept(ctx, i.owner, rec); kept {
		return err
	}
	l, err := d.store().Measure(ctx, rec)
	if err != nil {
		return fmt.Errorf("measure container %.12s: %w", rec.ID, err)
	}
	if err := still(ctx); err != nil {
		return refusal(err)
	}
	l.CgroupOwner = i.cgroupOwner
	return d.appendLaunch(ctx, i.owner, instanceID(rec, i.inode), rec, l)
}

func (d *Daemon) appendLaunch(ctx context.Context, owner, instance string, rec records.Record, l launch.Launch) error {
	l, err := launch.Condense(l, maxLaunch)
	if err != nil {
		return err
	}
	// Before its launch, so that no evidence of it is without.
	if err := d.announcePower(ctx, owner, rec); err != nil {
		return err
	}
	e := ledger.Event{Operation: logs.OpLaunch, Owner: owner, Instance: instance, Measured: l}
	if owner != rec.ID {
		e.Cgroup = rec.CgroupPath // a user's record isn't listed
	}
	_, err = d.ledger.Append(ctx, e)
	if err == nil {
		d.log.Info("container measured", "container", owner, "runtime", rec.Runtime, "start", startOf(instance))
	}
	return err
}

// announcePower tells all by which means a container could act as root of the
// guest. What was said of another one isn't said again, for it names none.
func (d *Daemon) announcePower(ctx context.Context, owner string, rec records.Record) error {
	classes, err := d.store().Power(ctx, rec)
	if err != nil {
		return fmt.Errorf("power of container %.12s: %w", rec.ID, err)
	}
	if len(classes) == 0 {
		return nil
	}
	_, err = d.ledger.Append(ctx, ledger.Event{Operation: logs.OpPower, Measured: logs.PowerBody{Classes: classes}, Charge: owner, Once: true})
	if err == nil {
		d.log.Warn("a container can act as root of the guest", "container", owner, "power", fmt.Sprint(classes))
	}
	return err
}

func (d *Daemon) logImage(ctx context.Context, i *instance, rec records.Record, instance string) error {
	img, err := d.engine.Image(ctx, rec)
	deadline := time.Duration(d.config().Launch.ImageDeadline)
	switch {
	case err == nil:
	case errors.Is(err, engines.ErrNoEngine):
		img = launch.Image{Absent: "no engine to ask"}
	case time.Since(i.first) < deadline:
		return rpc.NotReady(imageRetry, "the engine has not told the image yet: ask again").Because(err)
	default:
		d.log.Warn("image not measured", "container", i.owner, "error", err)
		img = launch.Image{Absent: "the engine did not answer"}
	}
	_, err = d.ledger.Append(ctx, ledger.Event{Operation: logs.OpImage, Owner: i.owner, Instance: instance, Measured: img})
	return err
}

// record reads an instance's record again; the one that named it may have been
// replaced by a new start.
func (d *Daemon) record(ctx context.Context, i *instance) (records.Record, error) {
	rec, ok, err := d.store().Declared(ctx, i.container.CgroupPath)
	if err != nil {
		return records.Record{}, err
	}
	if !ok || rec.ID != i.container.ID || rec.UID != i.container.UID {
		return records.Record{}, rpc.Unattributed("the record of this container is gone: it is being stopped or replaced")
	}
	return rec, nil
}
