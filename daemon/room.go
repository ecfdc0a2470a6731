package daemon

import (
	"encoding/base64"
	"fmt"
	"time"

	"github.com/cima-project/cima/daemon/ledger"
)

// What evidence holds beside logs: quote, claims with a caller's user data, and
// the proof of a shared quote.
const beside = 64 << 10

// minRoom is what the runtime log needs at least: some thousand events.
const minRoom = 256 << 10

// room is how many bytes of evidence are left beside what doesn't grow.
func (d *Daemon) room(c Config) int64 {
	return int64(c.Limits.EvidenceReply - beside - base64.StdEncoding.EncodedLen(len(d.bootLog)))
}

// osRoom is the part of it for the kernel's IMA log, where that is in evidence.
func (d *Daemon) osRoom(c Config) int64 {
	if d.osLog == nil {
		return 0
	}
	return d.room(c) / 2
}

// logRoom is how many bytes of evidence the runtime log may take, so that it
// can be sent whatever others do.
func (d *Daemon) logRoom(c Config) int64 { return d.room(c) - d.osRoom(c) }

func (d *Daemon) checkRoom(c Config) error {
	if room := d.logRoom(c); room < minRoom {
		return fmt.Errorf("limits.evidence_reply = %d: beside a boot log of %d bytes it is too small: %d or more would do",
			c.Limits.EvidenceReply, len(d.bootLog), int64(c.Limits.EvidenceReply)+2*(minRoom-room))
	}
	return nil
}

// logLimits bound the runtime log: on disk, and by the evidence that shows it.
// Half of that is everybody's, half a container's own.
func (d *Daemon) logLimits(c Config) ledger.Limits {
	room := d.logRoom(c)
	return ledger.Limits{
		Bytes:       c.Limits.LogBytes,
		Shown:       room / 2,
		OwnerShown:  room - room/2,
		OwnerEvents: c.Limits.EventsPerContainer,
		Whole:       c.Isolation == isolationNone,
		Timeout:     time.Duration(c.Limits.RegisterTimeout),
	}
}
