package verify

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"iter"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// teeTDX is the only kind of TEE whose evidence is appraised here.
const teeTDX = "tdx"

// evidence is one bundle, with all that is packed in it. parse fills it in;
// the steps only read it.
type evidence struct {
	bundle     *rpc.Evidence
	claims     *rpc.Claims
	quote      *dcap.Quote
	reportData [64]byte  // the quote must hold for the claims, as received
	bootLog    *boot.Log // nil where the claims name another one
	log        []entry   // the runtime log
	register   hw.Digest // its replay
	claimed    hw.Digest // its replay up to claims.log.count
}

// entry is one event of the runtime log, or only its digest.
type entry struct {
	digest hw.Digest
	event  *logs.Event
}

// parse reads a bundle and all that is packed in it. It accepts one form of
// everything and no other.
func parse(bundle []byte) (ev *evidence, err error) {
	ev = &evidence{}
	if ev.bundle, ev.claims, err = rpc.DecodeEvidence(bundle); err != nil {
		return nil, err
	}
	if ev.reportData, err = rpc.ReportData(ev.bundle.Claims); err != nil {
		return nil, err
	}
	if ev.bundle.TEE != teeTDX {
		return nil, fmt.Errorf("evidence of a TEE %q: only %q is appraised here", ev.bundle.TEE, teeTDX)
	}
	if ev.quote, err = dcap.ParseQuote(ev.bundle.Quote); err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	if err = ev.readBootLog(); err != nil {
		return nil, err
	}
	if err = ev.readRuntimeLog(); err != nil {
		return nil, err
	}
	ev.replayLog()
	return ev, nil
}

// format is the result of the step format for evidence that could be read.
func (ev *evidence) format() Step {
	return pass(fmt.Sprintf("quote version %d, boot log of %d events, runtime log of %d events",
		ev.quote.Version, ev.bootEvents(), len(ev.log)))
}

// readBootLog parses the boot log if it is the one that the claims name. The step
// boot-log refuses another one.
func (ev *evidence) readBootLog() error {
	if sha512.Sum384(ev.bundle.BootLog) != ev.claims.BootLog {
		return nil
	}
	log, err := boot.Parse(ev.bundle.BootLog)
	if err != nil {
		return err
	}
	if !bytes.Equal(log.Bytes(), ev.bundle.BootLog) {
		return errors.New("boot log: padding stands behind it")
	}
	ev.bootLog = log
	return nil
}

func (ev *evidence) bootEvents() int {
	if ev.bootLog == nil {
		return 0
	}
	return ev.bootLog.Len()
}

// readRuntimeLog flattens the log's records to one entry per event.
func (ev *evidence) readRuntimeLog() error {
	for i, r := range ev.bundle.RuntimeLog {
		if r.Event == nil {
			for at := 0; at < len(r.Digests); at += len(hw.Digest{}) {
				ev.log = append(ev.log, entry{digest: hw.Digest(r.Digests[at:])})
			}
			continue
		}
		e, err := logs.ParseEvent(r.Event)
		if err != nil {
			return fmt.Errorf("runtime log: record %d: %w", i, err)
		}
		ev.log = append(ev.log, entry{e.Digest(), &e})
	}
	return nil
}

// shown returns the events for the result.
func (ev *evidence) shown() []Event {
	var shown []Event
	for i, e := range ev.log {
		s := Event{Position: i, Digest: e.digest, Judged: i < ev.claims.Log.Count}
		if e.event != nil {
			s.Operation, s.Container, s.Measured = e.event.Operation, e.event.Container, e.event.Measured
		}
		shown = append(shown, s)
	}
	return shown
}

// prefix is the log as it stood when the claims were fixed.
func (ev *evidence) prefix() []entry {
	return ev.log[:max(0, min(ev.claims.Log.Count, len(ev.log)))]
}

// shownEvents are the events in the prefix that are shown.
func (ev *evidence) shownEvents() iter.Seq[*logs.Event] {
	return func(yield func(*logs.Event) bool) {
		for _, e := range ev.prefix() {
			if e.event != nil && !yield(e.event) {
				return
			}
		}
	}
}

// replayLog replays the runtime log, once for the two steps that need it.
func (ev *evidence) replayLog() {
	for i, e := range ev.log {
		ev.register = ev.register.Extend(e.digest)
		if i < ev.claims.Log.Count {
			ev.claimed = ev.register
		}
	}
}

// private reports whether the daemon shows nothing of others' events.
func (ev *evidence) private() bool { return ev.claims.Log.View == rpc.ViewPrivate }
