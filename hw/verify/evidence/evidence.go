// Package evidence answers: what does a bundle of evidence hold?
//
// It reads a bundle, and all that is packed in it, in the one form that each has, and
// replays its runtime log. It judges nothing but form.
package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// Bundle is one bundle, with all that is packed in it.
type Bundle struct {
	Wire       *rpc.Evidence
	Claims     *rpc.Claims
	Quote      *dcap.Quote      // of a TD; else nil
	SNP        *snp.Attestation // of an SNP guest; else nil
	TPM        *TPM             // of a VM whose paravisor has the registers; else nil
	ReportData [64]byte         // the quote must hold for the claims, as received
	BootLog    *boot.Log        // nil where the claims name another one
	Log        []Entry          // the runtime log
	Register   hw.Digest        // its replay
	Claimed    hw.Digest        // its replay up to claims.log.count
}

// Entry is one event of the runtime log, or only its digest.
type Entry struct {
	Digest hw.Digest
	Event  *logs.Event
}

// Parse reads a bundle and all that is packed in it. It accepts one form of
// everything and no other.
func Parse(bundle []byte) (ev *Bundle, err error) {
	ev = &Bundle{}
	if ev.Wire, ev.Claims, err = rpc.DecodeEvidence(bundle); err != nil {
		return nil, err
	}
	if ev.ReportData, err = rpc.ReportData(ev.Wire.Claims); err != nil {
		return nil, err
	}
	if err = ev.readPlatform(); err != nil {
		return nil, err
	}
	if err = ev.readRuntimeLog(); err != nil {
		return nil, err
	}
	ev.replayLog()
	return ev, nil
}

// readBootLog parses the boot log if it is the one that the claims name. The step
// boot-log refuses another one.
func (ev *Bundle) readBootLog() error {
	if !ev.bootLogNamed() {
		return nil
	}
	log, err := boot.Parse(ev.Wire.BootLog)
	if err != nil {
		return err
	}
	if !bytes.Equal(log.Bytes(), ev.Wire.BootLog) {
		return errors.New("boot log: padding stands behind it")
	}
	ev.BootLog = log
	return nil
}

// readRuntimeLog flattens the log's records to one entry per event.
func (ev *Bundle) readRuntimeLog() error {
	n := 0
	for _, r := range ev.Wire.RuntimeLog {
		n += max(1, len(r.Digests)/len(hw.Digest{}))
	}
	ev.Log = make([]Entry, 0, n)
	events := make([]logs.Event, len(ev.Wire.RuntimeLog))
	for i, r := range ev.Wire.RuntimeLog {
		if r.Event == nil {
			for at := 0; at < len(r.Digests); at += len(hw.Digest{}) {
				ev.Log = append(ev.Log, Entry{Digest: hw.Digest(r.Digests[at:])})
			}
			continue
		}
		var err error
		if events[i], err = logs.ReadEvent(r.Event); err != nil {
			return fmt.Errorf("runtime log: record %d: %w", i, err)
		}
		ev.Log = append(ev.Log, Entry{events[i].Digest(), &events[i]})
	}
	return nil
}

// Prefix is the log as it stood when the claims were fixed.
func (ev *Bundle) Prefix() []Entry {
	return ev.Log[:max(0, min(ev.Claims.Log.Count, len(ev.Log)))]
}

// ShownEvents are the events in the prefix that are shown.
func (ev *Bundle) ShownEvents() iter.Seq[*logs.Event] {
	return func(yield func(*logs.Event) bool) {
		for _, e := range ev.Prefix() {
			if e.Event != nil && !yield(e.Event) {
				return
			}
		}
	}
}

// replayLog replays the runtime log, once for the two steps that need it.
func (ev *Bundle) replayLog() {
	for i, e := range ev.Log {
		ev.Register = ev.Register.Extend(e.Digest)
		if i < ev.Claims.Log.Count {
			ev.Claimed = ev.Register
		}
	}
}

// Private reports whether the daemon shows nothing of others' events.
func (ev *Bundle) Private() bool { return ev.Claims.Log.View == rpc.ViewPrivate }
