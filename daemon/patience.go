package daemon

import (
	"context"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// inTime bounds what waits for the register, or for what waits for it.
func (d *Daemon) inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(d.config().Limits.RegisterTimeout))
}

// registers reads the registers for a caller.
func (d *Daemon) registers(ctx context.Context) (hw.Registers, error) {
	ctx, cancel := d.inTime(ctx)
	defer cancel()
	return d.tee.Registers(ctx)
}

// lock is a mutex that can be waited for in time.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) take(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) try() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l lock) give() { <-l }

// enter takes an instance's lock, or says that it is being measured. Before the
// daemon's start is logged nobody knows whether the log's last record happened.
func (d *Daemon) enter(ctx context.Context, i *instance) error {
	if err := d.ledger.Ready(ctx); err != nil {
		return err
	}
	ctx, cancel := d.inTime(ctx)
	defer cancel()
	if err := i.measuring.take(ctx); err != nil {
		return rpc.NotReady(time.Second, "the container is still being measured, and the register does not answer: ask again").Because(err)
	}
	return nil
}
