package verify

import (
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// bootedOf is what a quote alone shows of the boot.
func bootedOf(q *dcap.Quote) policy.Booted {
	return policy.Booted{MRTD: q.Registers.MRTD, RTMR: [3]hw.Digest(q.Registers.RTMR[:3])}
}

// withLog adds the boot log: RTMR2 is then what the boot left there.
func withLog(b policy.Booted, log *boot.Log) policy.Booted {
	if b.Log = log; log != nil {
		if registers, err := log.Replay(); err == nil {
			b.RTMR[2] = registers[2]
		}
	}
	return b
}

// booted is what the boot itself left, before the operating system extended
// RTMR2.
func booted(ev *evidence.Bundle) policy.Booted {
	var now policy.Booted
	if ev.SNP != nil {
		measurement := hw.Digest(ev.SNP.Measurement)
		now.Measurement = &measurement
	} else {
		now = bootedOf(ev.Quote)
	}
	if ev.TPM != nil && ev.SNP == nil {
		now.RTMR3 = ev.Quote.Registers.RTMR[3]
	}
	if now.PCRs, now.LogPCR, now.InPCR = ev.PCRs(), ev.LogPCR(), ev.InPCR(); ev.Quote == nil || now.PCRs != nil {
		return now
	}
	if len(ev.Wire.OSLogs) > 0 {
		first := ev.Wire.OSLogs[0]
		now.Further, now.Begun = true, first.Format == rpc.FormatIMA && replay.BeginsIMA(first.Entries)
	}
	return withLog(now, ev.BootLog)
}
