package config

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/cima-project/cima/daemon/ledger"
)

// otherParts is the size of what evidence holds besides logs: the quote, the
// claims with a caller's user data, and the proof of a shared quote.
const otherParts = 64 << 10

// minRuntimeLog is the least that the runtime log needs in evidence: some
// thousand events.
const minRuntimeLog = 256 << 10

// Budget divides the bytes of a reply with evidence between its parts, so that
// evidence can be sent whatever other callers do.
type Budget struct {
	BootLog int  // bytes of the boot log, before base64
	OSLog   bool // the kernel's IMA log is a part of evidence
}

// logs is the number of bytes of evidence for the logs that grow.
func (b Budget) logs(l *Limits) int64 {
	return int64(l.EvidenceReply - otherParts - base64.StdEncoding.EncodedLen(b.BootLog))
}

// OSLogs is the number of bytes of evidence for the kernel's IMA log.
func (b Budget) OSLogs(l *Limits) int64 {
	if !b.OSLog {
		return 0
	}
	return b.logs(l) / 2
}

// runtimeLog is the number of bytes of evidence for the runtime log.
func (b Budget) runtimeLog(l *Limits) int64 { return b.logs(l) - b.OSLogs(l) }

// Check refuses a limits.evidence_reply that leaves too little for the runtime
// log.
func (b Budget) Check(l *Limits) error {
	if free := b.runtimeLog(l); free < minRuntimeLog {
		return fmt.Errorf("limits.evidence_reply = %d: with a boot log of %d bytes it must be %d or more",
			l.EvidenceReply, b.BootLog, int64(l.EvidenceReply)+2*(minRuntimeLog-free))
	}
	return nil
}

// LogLimits bound the runtime log on disk, and what evidence shows of it: half
// of the bytes are for public events and others' digests, half for a container's
// own events.
func (c *Config) LogLimits(b Budget) ledger.Limits {
	bytes := b.runtimeLog(&c.Limits)
	return ledger.Limits{
		Bytes:       c.Limits.LogBytes,
		Shown:       bytes / 2,
		OwnerShown:  bytes - bytes/2,
		OwnerEvents: c.Limits.EventsPerContainer,
		Timeout:     time.Duration(c.Limits.RegisterTimeout),
		Whole:       c.Isolation == IsolationNone,
	}
}
