package daemon

import (
	"context"
	"encoding/base64"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// openOSLog opens the kernel's IMA log where the kernel extends RTMR2 for it.
func (d *Daemon) openOSLog(ctx context.Context) error {
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

// shownOSLog is what a run takes beside its entries.
const shownOSLog = int64(len(`{"register":"rtmr2","format":"ima-digests","entries":""},`))

// osLogs are evidence's os_logs.
func (d *Daemon) osLogs(s *subject, rtmr2 hw.Digest) ([]rpc.OSLog, error) {
	if d.osLog == nil {
		return nil, nil
	}
	list, err := d.osLog.Shown(rtmr2, s.cgroup(), d.config().Isolation == config.IsolationNone)
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for _, l := range list {
		size += shownOSLog + int64(base64.StdEncoding.EncodedLen(len(l.Entries)))
	}
	most := d.budget().OSLogs(&d.config().Limits)
	if size > most/2 && !d.osLogWarned.Swap(true) {
		d.log.Warn("the kernel's IMA log takes more than half of its room in evidence; raise limits.evidence_reply and reload", "bytes", size, "room", most)
	}
	if size > most {
		return nil, rpc.TooLarge(most, "the kernel's IMA log takes %d bytes of evidence: limits.evidence_reply leaves %d for it", size, most)
	}
	return list, nil
}
