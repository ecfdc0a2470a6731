package verify

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// teeTDX is the only kind of TEE whose evidence is appraised here.
const teeTDX = "tdx"

// parse is the step format: it reads the bundle and all that is packed in it,
// and takes no form but one for anything.
func parse(bundle []byte, opts Options) (*appraisal, Step) {
	a := &appraisal{opts: opts}
	if err := a.read(bundle); err != nil {
		return a, fail(err.Error())
	}
	return a, pass(fmt.Sprintf("quote version %d, boot log of %d events, runtime log of %d events",
		a.quote.Version, a.bootEvents(), len(a.log)))
}

func (a *appraisal) read(bundle []byte) (err error) {
	if a.evidence, a.claims, err = rpc.DecodeEvidence(bundle); err != nil {
		return err
	}
	if a.reportData, err = rpc.ReportData(a.evidence.Claims); err != nil {
		return err
	}
	if a.evidence.TEE != teeTDX {
		return fmt.Errorf("evidence of a TEE %q: only %q is appraised here", a.evidence.TEE, teeTDX)
	}
	if a.quote, err = ParseQuote(a.evidence.Quote); err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	if err = a.readBootLog(); err != nil {
		return err
	}
	if err = a.readRuntimeLog(); err != nil {
		return err
	}
	a.replayLog()
	return nil
}

// readBootLog parses the boot log where it is the one that the claims name:
// another one is the boot-log step's to refuse.
func (a *appraisal) readBootLog() error {
	if sha512.Sum384(a.evidence.BootLog) != a.claims.BootLog {
		return nil
	}
	log, err := boot.Parse(a.evidence.BootLog)
	if err != nil {
		return err
	}
	if !bytes.Equal(log.Bytes(), a.evidence.BootLog) {
		return errors.New("boot log: padding stands behind it")
	}
	a.bootLog = log
	return nil
}

func (a *appraisal) bootEvents() int {
	if a.bootLog == nil {
		return 0
	}
	return a.bootLog.Len()
}

// readRuntimeLog flattens the log's records to one entry per event.
func (a *appraisal) readRuntimeLog() error {
	for i, r := range a.evidence.RuntimeLog {
		if r.Event == nil {
			for at := 0; at < len(r.Digests); at += len(hw.Digest{}) {
				a.log = append(a.log, entry{digest: hw.Digest(r.Digests[at:])})
			}
			continue
		}
		e, err := logs.ParseEvent(r.Event)
		if err != nil {
			return fmt.Errorf("runtime log: record %d: %w", i, err)
		}
		a.log = append(a.log, entry{hw.Digest(e.Digest()), &e})
	}
	return nil
}

// shown are the events for the result.
func (a *appraisal) shown() []Event {
	var shown []Event
	for i, e := range a.log {
		s := Event{Position: i, Digest: e.digest, Judged: i < a.claims.Log.Count}
		if e.event != nil {
			s.Operation, s.Container, s.Measured = e.event.Operation, e.event.Container, e.event.Measured
		}
		shown = append(shown, s)
	}
	return shown
}
