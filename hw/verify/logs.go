package verify

import (
	"crypto/sha512"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// bootLog: the boot log, and the operating system's where it extends the
// same registers, explain RTMR0–2.
func bootLog(ev *evidence) Step {
	digest := Comparison{"boot log, SHA-384", ev.claims.BootLog.String(), rpc.Digest(sha512.Sum384(ev.bundle.BootLog)).String()}
	if ev.bootLog == nil {
		return fail("the boot log is not the one that the claims name", digest)
	}
	registers, err := ev.bootLog.Replay()
	if err != nil {
		return fail(err.Error(), digest)
	}
	booted := fmt.Sprintf("%d boot events", ev.bootLog.Len())
	violations := int64(0)
	if len(ev.bundle.OSLogs) > 0 {
		os, err := replay.OSLogs(ev.bundle.OSLogs, &registers)
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
	if want := ev.claims.OSLogs; want != nil {
		got := rpc.OSLogsDigest(ev.bundle.OSLogs)
		compared = append(compared, Comparison{"OS logs, SHA-384", want.String(), got.String()})
		if *want != got {
			differ = "the operating system's logs are not those that the claims name"
		}
	}
	for i, want := range ev.quote.Registers.RTMR[:3] {
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
	if violations > 0 && ev.claims.OSLogs == nil {
		return warn(fmt.Sprintf("%s replay to RTMR0–2; nothing vouches for what %d violations say", booted, violations), compared...)
	}
	return pass(booted+" replay to RTMR0–2", compared...)
}

// runtimeLog: the log is all that happened to RTMR3, up to the quote.
func runtimeLog(ev *evidence) Step {
	switch later := len(ev.log) - ev.claims.Log.Count; {
	case ev.private():
		return privateLog(ev)
	case later < 0:
		return fail(fmt.Sprintf("the claims count %d events, the log has %d", ev.claims.Log.Count, len(ev.log)))
	case ev.claims.Log.Anchor == logs.AnchorReportData && later > 0:
		return fail(fmt.Sprintf("%d events follow the claims, and nothing vouches for them: RTMR3 is not the log's", later))
	case ev.claims.Log.Anchor == logs.AnchorReportData:
		return warn("RTMR3 was not judged: the agent says that it is another's, and vouches for the log alone")
	case ev.claims.Log.Anchor != logs.AnchorRTMR3:
		return fail(fmt.Sprintf("unknown anchor %q", ev.claims.Log.Anchor))
	default:
		c := Comparison{"RTMR3", ev.quote.Registers.RTMR[3].String(), ev.register.String()}
		if ev.register != ev.quote.Registers.RTMR[3] {
			return fail("RTMR3 holds something else than the runtime log replays to", c)
		}
		detail := fmt.Sprintf("%d events replay to RTMR3", len(ev.log))
		if later > 0 {
			detail += fmt.Sprintf("; the last %d came after the claims and are not judged", later)
		}
		return pass(detail, c)
	}
}

// privateLog: only public events and the caller's own are shown, so the log
// does not replay.
func privateLog(ev *evidence) Step {
	for i, e := range ev.log {
		if e.event == nil {
			return fail(fmt.Sprintf("event %d is a digest, and the claims say that none of others is shown", i))
		}
	}
	switch anchor := ev.claims.Log.Anchor; {
	case len(ev.log) > ev.claims.Log.Count:
		return fail(fmt.Sprintf("the claims count %d events, and %d are shown", ev.claims.Log.Count, len(ev.log)))
	case anchor != logs.AnchorRTMR3 && anchor != logs.AnchorReportData:
		return fail(fmt.Sprintf("unknown anchor %q", anchor))
	}
	return warn(fmt.Sprintf("RTMR3 was not judged: %d of %d events are shown, for the agent isolates containers wholly, and vouches for the log alone",
		len(ev.log), ev.claims.Log.Count))
}

// logClaims: the claims are of this log at that point, and no public event of
// it is hidden.
func logClaims(ev *evidence) Step {
	if ev.claims.Log.Count > len(ev.log) && !ev.private() {
		return fail(fmt.Sprintf("the claims count %d events, the log has %d", ev.claims.Log.Count, len(ev.log)))
	}
	var public hw.Digest
	publics := 0
	for _, e := range ev.prefix() {
		if e.event == nil || e.event.Container != "" {
			continue
		}
		if d, ok := e.event.MeasuredDigest(); ok {
			public = public.Extend(d)
			publics++
		}
	}
	compared := []Comparison{{"public register", ev.claims.Log.Public.String(), public.String()}}
	if !ev.private() {
		compared = append([]Comparison{{"log register", ev.claims.Log.Register.String(), ev.claimed.String()}}, compared...)
	}
	switch {
	case !ev.private() && ev.claimed != ev.claims.Log.Register:
		return fail("the log replays to another register than the claims say", compared...)
	case public != ev.claims.Log.Public, ev.claims.Log.PublicCount != 0 && ev.claims.Log.PublicCount != publics:
		return fail("public events are hidden, or others are shown, than the claims say", compared...)
	}
	if ev.private() {
		return pass(fmt.Sprintf("all %d public events are shown", publics), compared...)
	}
	return pass(fmt.Sprintf("the first %d events give the claimed log; all %d public ones are shown", ev.claims.Log.Count, publics), compared...)
}
