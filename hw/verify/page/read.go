package page

import (
	"bytes"
	"fmt"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// OfBundle is the page of a bundle of evidence and its appraisal. Logs that can't be read
// are left out: the result says so.
func OfBundle(title string, bundle []byte, r *verify.Result) Shown {
	s := Shown{title: title, result: r}
	ev, _, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		return s
	}
	if len(ev.Platform.PCRs) > 0 {
		s.addTPM(bundle)
	} else {
		s.add(replay.Files{BootLog: ev.BootLog})
	}
	for _, l := range ev.OSLogs {
		if l.Format == rpc.FormatIMA {
			s.add(replay.Files{IMALog: l.Entries})
			continue
		}
		for i := 0; i+48 <= len(l.Entries); i += 48 {
			s.logs = append(s.logs, replay.Event{Log: "ima", Number: i / 48, Register: l.Register, Type: "?", Digest: l.Entries[i : i+48]})
		}
	}
	return s
}

// OfQuote is the page of a quote with the logs beside it, and its appraisal.
func OfQuote(title string, files replay.Files, r *verify.Result) Shown {
	s := Shown{title: title, result: r}
	s.add(files)
	return s
}

// OfLogs is the page of logs that nobody judged, held against the registers of a quote or
// a TDREPORT where one is given. It fails where one can't be read.
func OfLogs(title string, files replay.Files) (Shown, error) {
	s := Shown{title: title, head: head{State: unproved, Words: "replayed, and not verified", Mark: unproved.Mark(), Under: "nobody vouches for these logs: no signature was checked"}}
	r, err := replay.Run(files, s.keep)
	if err != nil {
		return s, err
	}
	if files.Quote == nil && files.TDReport == nil {
		for i, v := range r.Registers {
			s.registers = append(s.registers, register{Name: fmt.Sprintf("RTMR%d", i), Logs: fmt.Sprintf("%x", v), State: unproved, Note: "there is nothing to compare it with"})
		}
		return s, nil
	}
	quoted, err := files.UnverifiedRegisters()
	if err != nil {
		return s, err
	}
	s.registers = append(s.registers, register{Name: "MRTD", Held: quoted.MRTD.String(), State: unproved, Note: "no log explains it"})
	s.head.Words = "the logs agree with the registers"
	for i, m := range r.Against(quoted) {
		one := register{Name: fmt.Sprintf("RTMR%d", i), Held: m.Quoted.String(), Logs: m.Replayed.String(), State: proved, Note: "the log replays to it"}
		switch {
		case m.NothingKnown:
			one.Logs, one.State, one.Note = "", unproved, "no log is about it"
		case m.WithoutIMA:
			one.State, one.Note = unproved, "the boot log replays to it; nothing proves IMA's entries"
		case !m.Agrees:
			one.State, one.Note = failed, "the log replays to something else"
			s.head.State, s.head.Mark, s.head.Words = failed, failed.Mark(), "the logs disagree with the registers"
		}
		s.registers = append(s.registers, one)
	}
	return s, nil
}

// addTPM adds the registers of a TPM in the paravisor, and the events of its boot log.
func (s *Shown) addTPM(bundle []byte) {
	ev, err := evidence.Parse(bundle)
	if err != nil {
		return
	}
	s.registers = append(s.registers, pcrsOf(ev.Replayed(), pcrsKnown(s.result))...)
	log, err := boot.Parse(ev.Wire.BootLog)
	if err != nil {
		return
	}
	for i, e := range log.UnverifiedEvents() {
		one := replay.Event{Log: "boot", Number: i, Type: boot.TypeName(e.Type), Detail: e.Detail()}
		if e.Type != boot.EvNoAction {
			one.Register = fmt.Sprintf("PCR %d", e.MR)
		}
		for bank, digest := range e.Digests() {
			if bank.String() == ev.TPM.Quote.Bank {
				one.Digest = bytes.Clone(digest)
			}
		}
		s.logs = append(s.logs, one)
	}
}

func (s *Shown) keep(e replay.Event) {
	e.Digest = bytes.Clone(e.Digest)
	s.logs = append(s.logs, e)
}

// add adds the events of logs, as far as they can be read.
func (s *Shown) add(files replay.Files) { _, _ = replay.Run(files, s.keep) }
