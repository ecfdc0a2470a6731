package daemon

import (
	"context"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
)

// openOSLog opens the kernel's IMA log where the kernel extends RTMR2 for it. Where a
// TPM has the boot, no log of the operating system's stands in evidence.
func (d *Daemon) openOSLog(ctx context.Context) error {
	if d.opts.TEE.Parts().BootLog != hw.BootLogCCEL {
		return nil
	}
	booted, err := boot.Replay(d.bootLog)
	if err != nil {
		return err
	}
	now, err := d.registers(ctx)
	if err != nil {
		d.log.Warn("whether the kernel extends RTMR2 for IMA is not known", "error", err)
		return nil
	}
	d.osLog = oslog.Open(d.opts.imaDir(), booted[2], now.RTMR[2], d.config().Isolation == config.IsolationNone, d.log)
	return nil
}

// registers reads the registers, within the limit.
func (d *Daemon) registers(ctx context.Context) (hw.Registers, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.config().Limits.RegisterTimeout))
	defer cancel()
	return d.tee.Registers(ctx)
}
