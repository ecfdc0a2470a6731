package replay

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/ima"
)

// boot replays the boot log.
func (r *Replayed) boot(raw []byte, each func(Event)) error {
	log, err := boot.Parse(raw)
	if err != nil {
		return err
	}
	if r.Registers, err = log.Replay(); err != nil {
		return err
	}
	r.BootEvents = log.Len()
	for i, e := range log.UnverifiedEvents() {
		rtmr, extends := e.Extends()
		r.seesRTMR3 = r.seesRTMR3 || extends && rtmr == 3
		register := ""
		if extends {
			register = fmt.Sprintf("rtmr%d", rtmr)
		} else if e.MR == 0 {
			register = "mrtd"
		}
		each(Event{"boot", i, register, boot.TypeName(e.Type), e.Digest[:], e.Detail()})
	}
	return nil
}

// ima replays the IMA log, to RTMR2 and to the PCR 10 of the entries' bank.
func (r *Replayed) ima(raw []byte, each func(Event)) error {
	in := ima.NewReader(bytes.NewReader(raw))
	in.Check = true
	rtmr2 := ima.NewRTMR2(r.Registers[2])
	var pcr10 *ima.Register
	for e, err := range in.UnverifiedEntries() {
		if err != nil {
			return fmt.Errorf("IMA log: %w", err)
		}
		if pcr10 == nil && e.PCR == 10 {
			r.PCR10Alg = e.Alg
			pcr10 = ima.NewPCR(e.Alg, 10)
		}
		err := rtmr2.Extend(e)
		if pcr10 != nil {
			err = errors.Join(err, pcr10.Extend(e))
		}
		if err != nil {
			return fmt.Errorf("IMA log: entry %d: %w", in.Entries-1, err)
		}
		var fields []string
		for _, f := range e.Fields() {
			fields = append(fields, f.Text)
		}
		each(Event{"ima", int(in.Entries - 1), fmt.Sprintf("pcr%d", e.PCR), e.Template(), e.TemplateHash(), Printable(strings.Join(fields, " "))})
	}
	if in.Entries == 0 && len(raw) > 0 {
		return fmt.Errorf("IMA log: no entry in it: %w", in.LastSkip())
	}
	r.Registers[2] = [48]byte(rtmr2.Value())
	if pcr10 != nil {
		r.PCR10 = pcr10.Value()
	}
	r.IMAEntries, r.IMAViolations, r.Skipped, r.Mismatched = in.Entries, in.Violations, in.Skipped, in.Mismatched
	return nil
}

// runtime replays the runtime log.
func (r *Replayed) runtime(raw []byte, each func(Event)) error {
	for record, err := range logs.UnverifiedRuntimeRecords(bytes.NewReader(raw)) {
		if err != nil {
			return err
		}
		if record.Before != nil {
			r.claimed = true
			if r.agreed == r.RuntimeEvents && *record.Before == r.Registers[3] &&
				*record.After == r.Registers[3].Extend(record.Digest) {
				r.agreed++
			}
		}
		r.OtherRegisters = r.OtherRegisters || record.RTMR != 3
		r.Registers[record.RTMR] = r.Registers[record.RTMR].Extend(record.Digest)
		kind, detail := runtimeWords(record)
		each(Event{"runtime", r.RuntimeEvents, fmt.Sprintf("rtmr%d", record.RTMR), kind, record.Digest[:], detail})
		r.RuntimeEvents++
		r.values = append(r.values, r.Registers[3])
	}
	return nil
}

// runtimeWords describes a record for people.
func runtimeWords(r logs.RuntimeRecord) (kind, detail string) {
	switch {
	case r.Event != nil && r.Event.Container != "":
		return r.Event.Operation, Printable(ShortID(r.Event.Container) + " " + string(r.Event.Body()))
	case r.Event != nil:
		return r.Event.Operation, Printable(string(r.Event.Body()))
	case r.Data == nil:
		return "?", "only its digest is shown"
	}
	if a, err := boot.ParseAAEL(r.Data); err == nil {
		return Printable(a.Domain + " " + a.Operation), Printable(a.Content)
	}
	return "event", Printable(string(r.Data))
}
