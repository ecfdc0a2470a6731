package verify

import (
	"crypto/sha512"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// bootLog: the boot log, and the operating system's where it extends the
// same registers, explain RTMR0–2.
func bootLog(ev *evidence.Bundle) Step {
	switch {
	case ev.TPM != nil:
		return bootedPCRs(ev)
	case ev.SNP != nil:
		return nothingBooted(ev)
	}
	digest := Comparison{"boot log, SHA-384", ev.Claims.BootLog.String(), rpc.Digest(sha512.Sum384(ev.Wire.BootLog)).String()}
	if ev.BootLog == nil {
		return fail("the boot log is not the one that the claims name", digest)
	}
	registers, err := ev.BootLog.Replay()
	if err != nil {
		return fail(err.Error(), digest)
	}
	booted := fmt.Sprintf("%d boot events", ev.BootLog.Len())
	violations := int64(0)
	if len(ev.Wire.OSLogs) > 0 {
		os, err := replay.OSLogs(ev.Wire.OSLogs, &registers)
		if err != nil {
			return fail(err.Error(), digest)
		}
		booted += fmt.Sprintf(" and %d IMA entries", os.Entries+os.Hidden)
		if os.Hidden > 0 {
			booted += fmt.Sprintf(" (of %d only the digest is shown)", os.Hidden)
		}
		violations = os.Violations
	}
	compared, differ := []Comparison{digest}, ""
	if want := ev.Claims.OSLogs; want != nil {
		got := rpc.OSLogsDigest(ev.Wire.OSLogs)
		compared = append(compared, Comparison{"OS logs, SHA-384", want.String(), got.String()})
		if *want != got {
			differ = "the operating system's logs are not those that the claims name"
		}
	}
	for i, want := range ev.Quote.Registers.RTMR[:3] {
		compared = append(compared, Comparison{fmt.Sprintf("RTMR%d", i), want.String(), hw.Digest(registers[i]).String()})
		if want != registers[i] && differ == "" {
			differ = fmt.Sprintf("RTMR%d holds something else than the boot log replays to", i)
		}
	}
	switch {
	case differ != "":
		return fail(differ, compared...)
	case registers[3] != [48]byte{}:
		return fail("the boot log extends RTMR3, where the runtime log begins", compared...)
	}
	if violations > 0 && ev.Claims.OSLogs == nil {
		return warn(fmt.Sprintf("%s replay to RTMR0–2; nothing vouches for what %d violations say", booted, violations), compared...)
	}
	return pass(booted+" replay to RTMR0–2", compared...)
}

// runtimeLog: the log is all that happened to RTMR3, up to the quote.
func runtimeLog(ev *evidence.Bundle) Step {
	switch later := len(ev.Log) - ev.Claims.Log.Count; {
	case ev.Private():
		return privateLog(ev)
	case ev.TPM != nil && ev.Claims.Log.Anchor == logs.AnchorPCR:
		return logInPCR(ev)
	case ev.SNP != nil:
		return unheldLog(ev)
	case later < 0:
		return fail(fmt.Sprintf("the claims count %d events, the log has %d", ev.Claims.Log.Count, len(ev.Log)))
	case ev.Claims.Log.Anchor == logs.AnchorReportData && later > 0:
		return fail(fmt.Sprintf("%d events follow the claims, and nothing vouches for them: RTMR3 is not the log's", later))
	case ev.Claims.Log.Anchor == logs.AnchorReportData:
		return warn("RTMR3 was not judged: the agent says that it is another's, and vouches for the log alone")
	case ev.Claims.Log.Anchor != logs.AnchorRTMR3:
		return fail(fmt.Sprintf("unknown anchor %q", ev.Claims.Log.Anchor))
	default:
		c := Comparison{"RTMR3", ev.Quote.Registers.RTMR[3].String(), ev.Register.String()}
		if ev.Register != ev.Quote.Registers.RTMR[3] {
			return fail("RTMR3 holds something else than the runtime log replays to", c)
		}
		detail := fmt.Sprintf("%d events replay to RTMR3", len(ev.Log))
		if later > 0 {
			detail += fmt.Sprintf("; the last %d came after the claims and are not judged", later)
		}
		return pass(detail, c)
	}
}

// privateLog: only public events and the caller's own are shown, so the log
// does not replay.
func privateLog(ev *evidence.Bundle) Step {
	for i, e := range ev.Log {
		if e.Event == nil {
			return fail(fmt.Sprintf("event %d is a digest, and the claims say that none of others is shown", i))
		}
	}
	switch anchor := ev.Claims.Log.Anchor; {
	case len(ev.Log) > ev.Claims.Log.Count:
		return fail(fmt.Sprintf("the claims count %d events, and %d are shown", ev.Claims.Log.Count, len(ev.Log)))
	case ev.TPM == nil && anchor != logs.AnchorRTMR3 && anchor != logs.AnchorReportData: // of a TPM, evidence.Parse knows both
		return fail(fmt.Sprintf("unknown anchor %q", anchor))
	}
	return warn(fmt.Sprintf("%s was not judged: %d of %d events are shown, for the agent isolates containers wholly, and vouches for the log alone",
		map[bool]string{false: "RTMR3", true: "the log's PCR"}[ev.TPM != nil], len(ev.Log), ev.Claims.Log.Count))
}

// logClaims: the claims are of this log at that point, and no public event of
// it is hidden.
func logClaims(ev *evidence.Bundle) Step {
	if ev.Claims.Log.Count > len(ev.Log) && !ev.Private() {
		return fail(fmt.Sprintf("the claims count %d events, the log has %d", ev.Claims.Log.Count, len(ev.Log)))
	}
	var public hw.Digest
	publics := 0
	for _, e := range ev.Prefix() {
		if e.Event == nil || e.Event.Container != "" {
			continue
		}
		if d, ok := e.Event.MeasuredDigest(); ok {
			public = public.Extend(d)
			publics++
		}
	}
	compared := []Comparison{{"public register", ev.Claims.Log.Public.String(), public.String()}}
	if !ev.Private() {
		compared = append([]Comparison{{"log register", ev.Claims.Log.Register.String(), ev.Claimed.String()}}, compared...)
	}
	switch {
	case !ev.Private() && ev.Claimed != ev.Claims.Log.Register:
		return fail("the log replays to another register than the claims say", compared...)
	case public != ev.Claims.Log.Public, ev.Claims.Log.PublicCount != 0 && ev.Claims.Log.PublicCount != publics:
		return fail("public events are hidden, or others are shown, than the claims say", compared...)
	}
	if ev.Private() {
		return pass(fmt.Sprintf("all %d public events are shown", publics), compared...)
	}
	return pass(fmt.Sprintf("the first %d events give the claimed log; all %d public ones are shown", ev.Claims.Log.Count, publics), compared...)
}
