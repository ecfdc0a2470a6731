package daemon

import (
	"context"
	"time"

	"github.com/cima-project/cima/hw"
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
