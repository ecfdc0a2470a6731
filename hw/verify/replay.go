package verify

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// prefix is the log as it stood when the claims were fixed.
func (a *appraisal) prefix() []entry {
	return a.log[:max(0, min(a.claims.Log.Count, len(a.log)))]
}

// bootReplay: the boot log, and the operating system's where it extends the
// same registers, explain RTMR0–2.
func (a *appraisal) bootReplay() Step {
	digest := Comparison{"boot log, SHA-384", a.claims.BootLog.String(), rpc.Digest(sha512.Sum384(a.evidence.BootLog)).String()}
	if a.bootLog == nil {
		return fail("the boot log is not the one that the claims name", digest)
	}
	registers, err := a.bootLog.Replay()
	if err != nil {
		return fail(err.Error(), digest)
	}
	booted := fmt.Sprintf("%d boot events", a.bootLog.Len())
	violations := int64(0)
	if len(a.evidence.OSLogs) > 0 {
		os, err := replayOSLogs(a.evidence.OSLogs, &registers)
		if err != nil {
			return fail(err.Error(), digest)
		}
		booted += fmt.Sprintf(" and %d IMA entries", os.Entries)
		violations = os.Violations
	}
	compared, differ := []Comparison{digest}, ""
	if want := a.claims.OSLogs; want != nil {
		got := rpc.OSLogsDigest(a.evidence.OSLogs)
		compared = append(compared, Comparison{"OS logs, SHA-384", want.String(), got.String()})
		if *want != got {
			differ = "the operating system's logs are not those that the claims name"
		}
	}
	for i, want := range a.quote.Registers.RTMR[:3] {
		compared = append(compared, Comparison{fmt.Sprintf("RTMR%d", i), want.String(), hw.Digest(registers[i]).String()})
		if want != hw.Digest(registers[i]) && differ == "" {
			differ = fmt.Sprintf("RTMR%d holds something else than the boot log replays to", i)
		}
	}
	switch {
	case differ != "":
		return fail(differ, compared...)
	case registers[3] != [48]byte{}:
		return fail("the boot log extends RTMR3, where the runtime log begins", compared...)
	}
	if violations > 0 && a.claims.OSLogs == nil {
		return warn(fmt.Sprintf("%s replay to RTMR0–2; nothing vouches for what %d violations say", booted, violations), compared...)
	}
	return pass(booted+" replay to RTMR0–2", compared...)
}

// replayOSLogs replays what extended the registers after the boot log: IMA's
// list, where the kernel extends RTMR2 for it. Every byte of it must be under a
// digest, so it is in the kernel's own form and no other.
func replayOSLogs(list []rpc.OSLog, registers *logs.Registers) (*logs.IMAReader, error) {
	if len(list) != 1 || list[0].Register != "rtmr2" || list[0].Format != "ima-ascii" {
		return nil, fmt.Errorf("%d logs of the operating system, the first %q for %q: this version replays one of \"ima-ascii\" for \"rtmr2\"",
			len(list), list[0].Format, list[0].Register)
	}
	rtmr2 := logs.NewRTMR2(registers[2])
	reader := logs.NewIMAReader(bytes.NewReader(list[0].Entries))
	reader.Check = true
	rest := list[0].Entries
	for e, err := range reader.UnverifiedEntries() {
		if err != nil {
			return nil, fmt.Errorf("IMA log: %w", err)
		}
		at := reader.Entries - 1
		if e.PCR != 2 && e.PCR != 10 {
			return nil, fmt.Errorf("IMA log: entry %d is for register %d, not IMA's 10 or RTMR2", at, e.PCR)
		}
		var same bool
		if rest, same = bytes.CutPrefix(rest, []byte(e.String()+"\n")); !same || !asKernelWrites(e) {
			return nil, fmt.Errorf("IMA log: entry %d is not as the kernel writes it", at)
		}
		if err := rtmr2.Extend(e); err != nil {
			return nil, fmt.Errorf("IMA log: entry %d: %w", at, err)
		}
	}
	if bad := reader.Mismatched + reader.Unchecked + reader.Skipped; bad > 0 || len(rest) > 0 {
		return nil, fmt.Errorf("IMA log: %d entries are not what their template hashes say, or no entries", max(bad, 1))
	}
	registers[2] = [48]byte(rtmr2.Value())
	return reader, nil
}

// asKernelWrites says whether an entry's text is the one that the kernel makes
// of the bytes under the template hash: upper-case hex, say, would be another.
func asKernelWrites(e *logs.IMAEntry) bool {
	data, err := e.AppendTemplateData(nil)
	if err != nil {
		return false
	}
	const pcr = "\x02\x00\x00\x00" // any will do; the entry's own was looked at
	record := append([]byte(pcr), e.TemplateHash()...)
	for _, part := range [][]byte{[]byte(e.Template()), data} {
		record = binary.LittleEndian.AppendUint32(record, uint32(len(part)))
		record = append(record, part...)
	}
	again, err := logs.NewIMAReader(bytes.NewReader(record)).Next()
	return err == nil && again.String()[len(" 2"):] == e.String()[len("10"):]
}

// replayLog replays the runtime log, once for the two steps that look at it.
func (a *appraisal) replayLog() {
	for i, e := range a.log {
		a.register = a.register.Extend(e.digest)
		if i < a.claims.Log.Count {
			a.claimed = a.register
		}
	}
}

// runtimeReplay: the log is all that happened to RTMR3, up to the quote.
func (a *appraisal) runtimeReplay() Step {
	switch later := len(a.log) - a.claims.Log.Count; {
	case later < 0:
		return fail(fmt.Sprintf("the claims count %d events, the log has %d", a.claims.Log.Count, len(a.log)))
	case a.claims.Log.Anchor == anchorReportData && later > 0:
		return fail(fmt.Sprintf("%d events follow the claims, and nothing vouches for them: RTMR3 is not the log's", later))
	case a.claims.Log.Anchor == anchorReportData:
		return warn("RTMR3 was not judged: the agent says that it is another's, and vouches for the log alone")
	case a.claims.Log.Anchor != anchorRTMR3:
		return fail(fmt.Sprintf("unknown anchor %q", a.claims.Log.Anchor))
	default:
		c := Comparison{"RTMR3", a.quote.Registers.RTMR[3].String(), a.register.String()}
		if a.register != a.quote.Registers.RTMR[3] {
			return fail("RTMR3 holds something else than the runtime log replays to", c)
		}
		detail := fmt.Sprintf("%d events replay to RTMR3", len(a.log))
		if later > 0 {
			detail += fmt.Sprintf("; the last %d came after the claims and are not judged", later)
		}
		return pass(detail, c)
	}
}

// logClaims: the claims are of this log at that point, and no public event of
// it is hidden.
func (a *appraisal) logClaims() Step {
	if a.claims.Log.Count > len(a.log) {
		return fail(fmt.Sprintf("the claims count %d events, the log has %d", a.claims.Log.Count, len(a.log)))
	}
	var public hw.Digest
	publics := 0
	for _, e := range a.prefix() {
		if e.event == nil || e.event.Container != "" {
			continue
		}
		if d, ok := e.event.MeasuredDigest(); ok {
			public = public.Extend(d)
			publics++
		}
	}
	register := rpc.Digest(a.claimed)
	compared := []Comparison{
		{"log register", a.claims.Log.Register.String(), register.String()},
		{"public register", a.claims.Log.Public.String(), rpc.Digest(public).String()},
	}
	switch {
	case register != a.claims.Log.Register:
		return fail("the log replays to another register than the claims say", compared...)
	case rpc.Digest(public) != a.claims.Log.Public:
		return fail("public events are hidden, or others are shown, than the claims say", compared...)
	}
	return pass(fmt.Sprintf("the first %d events give the claimed log; all %d public ones are shown", a.claims.Log.Count, publics), compared...)
}
