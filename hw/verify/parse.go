package verify

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// MaxBundle bounds the bytes of a bundle.
const MaxBundle = 64 << 20

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
	if len(bundle) > MaxBundle {
		return fmt.Errorf("the bundle has %d bytes, more than %d", len(bundle), MaxBundle)
	}
	if a.evidence, a.claims, err = rpc.DecodeEvidence(bundle); err != nil {
		return err
	}
	if a.reportData, err = rpc.ReportData(a.evidence.Claims); err != nil {
		return err
	}
	if (a.claims.Container == nil) == (a.claims.Host == nil) {
		return errors.New("claims are of a container or of a host process, not of both or neither")
	}
	if a.quote, err = ParseQuote(a.evidence.Quote); err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	if err = a.readBootLog(); err != nil {
		return err
	}
	return a.readRuntimeLog()
}

// readBootLog parses the boot log where it is the one that the claims name:
// another one is the boot-log step's to refuse.
func (a *appraisal) readBootLog() error {
	if sha512.Sum384(a.evidence.BootLog) != a.claims.BootLog {
		return nil
	}
	log, err := logs.ParseBootLog(a.evidence.BootLog)
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
	hidden := false // the record before was a run of digests
	for i, r := range a.evidence.RuntimeLog {
		switch n := len(r.Digests); {
		case (r.Event == nil) == (r.Digests == nil):
			return fmt.Errorf("runtime log: record %d holds an event or digests, and one of the two", i)
		case r.Event != nil:
			e, err := logs.ParseEvent(r.Event)
			if err != nil {
				return fmt.Errorf("runtime log: record %d: %w", i, err)
			}
			a.log = append(a.log, entry{hw.Digest(e.Digest()), &e})
			hidden = false
		case n == 0 || n%len(hw.Digest{}) != 0:
			return fmt.Errorf("runtime log: record %d has %d bytes of digests, no multiple of 48", i, n)
		case hidden:
			return fmt.Errorf("runtime log: record %d goes on with a run of digests that record %d should hold whole", i, i-1)
		default:
			for at := 0; at < n; at += 48 {
				a.log = append(a.log, entry{digest: hw.Digest(r.Digests[at : at+48])})
			}
			hidden = true
		}
	}
	return nil
}

// shown are the events for the result.
func (a *appraisal) shown() []Event {
	var shown []Event
	for i, e := range a.log {
		s := Event{Position: i, Digest: rpc.Digest(e.digest), Judged: i < a.claims.Log.Count}
		if e.event != nil {
			s.Operation, s.Container, s.Measured = e.event.Operation, e.event.Container, e.event.Measured
		}
		shown = append(shown, s)
	}
	return shown
}
