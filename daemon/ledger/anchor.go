package ledger

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// held is what the log's register holds at one point of the log: RTMR3, or a PCR in
// each of its banks. One of the two is zero.
type held struct {
	rtmr3 hw.Digest
	pcr   pcr.Value
}

func (h held) String() string {
	if h.pcr.None() {
		return fmt.Sprintf("%.16s…", h.rtmr3)
	}
	return h.pcr.String()
}

// anchored reports whether a register holds the log.
func (o *Options) anchored() bool { return o.Anchor != logs.AnchorReportData }

// registerName is the log's register, as people call it.
func (o *Options) registerName() string {
	if o.Anchor == logs.AnchorPCR {
		return fmt.Sprintf("PCR %d", o.PCR)
	}
	return "RTMR3"
}

// of is the log's register of all that were read.
func (o *Options) of(all hw.Registers) held {
	if o.Anchor == logs.AnchorPCR {
		return held{pcr: all.PCR}
	}
	return held{rtmr3: all.RTMR[3]}
}

// stands is what the log's register must hold now, without the pending record.
func stands(l *Ledger) held {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.opts.Anchor != logs.AnchorPCR {
		return held{rtmr3: l.register}
	}
	if l.records.n == 0 {
		return held{pcr: l.first}
	}
	return held{pcr: l.pcr}
}

// around is what the log's register holds before and after a record is attested.
func around(l *Ledger, r *diskRecord, e logs.Event) (before, after held) {
	if l.opts.Anchor != logs.AnchorPCR {
		return held{rtmr3: r.Before}, held{rtmr3: r.After}
	}
	before = stands(l)
	if l.replayed() == (hw.Digest{}) { // a register that is extended is never zero again
		before = held{pcr: firstPCR(e)}
	}
	return before, held{pcr: before.pcr.Extend(e.Digest())}
}

// First is what the PCR that holds the log held before event 0: what event 0 says, or
// what the PCR holds now if there is no event yet. Event 0 must say it.
func (l *Ledger) First(ctx context.Context) (pcr.Value, error) {
	ctx, cancel := l.withTimeout(ctx)
	defer cancel()
	var first pcr.Value
	err := l.exclusive(ctx, func(ctx context.Context) error {
		if _, err := l.resolvePending(ctx); err != nil {
			return err
		}
		l.mu.RLock()
		first = l.first
		begun := l.records.n > 0
		l.mu.RUnlock()
		if begun {
			return nil
		}
		now, err := l.opts.read(ctx)
		if err != nil {
			return fmt.Errorf("read %s: %w", l.opts.registerName(), err)
		}
		if now.pcr.None() {
			return &hw.Error{Op: hw.OpRegisters, Path: l.opts.registerName(), Err: errors.New("neither the bank of SHA-256 nor that of SHA-384 is active"), Advice: "activate one of them in the firmware's settings"}
		}
		first = now.pcr
		l.mu.Lock()
		l.first = first
		l.mu.Unlock()
		return nil
	})
	return first, err
}

// read reads the log's register.
func (o *Options) read(ctx context.Context) (held, error) {
	all, err := o.Register.Registers(ctx)
	return o.of(all), err
}

// checkFirst refuses an event 0 that doesn't say what the PCR held before it.
func checkFirst(l *Ledger, e logs.Event) error {
	if l.opts.Anchor != logs.AnchorPCR || l.replayed() != (hw.Digest{}) {
		return nil
	}
	if stands := stands(l); stands.pcr.None() || firstPCR(e) != stands.pcr {
		return l.opts.moved()
	}
	return nil
}

// moved is the error where something measured into the PCR between the reading of its
// first value and event 0: that value is to be read again.
func (o *Options) moved() error {
	return &hw.Error{Op: hw.OpExtend, Path: o.registerName(), Err: errors.New("it changed before the log began"), Advice: "its first value is read again"}
}

// firstPCR is the first value that event 0 says; of no other event there is one.
func firstPCR(e logs.Event) pcr.Value {
	if e.Operation != logs.OpStart {
		return pcr.Value{}
	}
	var start logs.StartBody
	if json.Unmarshal(e.Body(), &start) != nil || start.Register == nil {
		return pcr.Value{}
	}
	first, err := start.Register.First.Value()
	if err != nil {
		return pcr.Value{}
	}
	return first
}
