package verify

import (
	"crypto/sha512"
	"fmt"

	"github.com/cima-project/cima/hw"
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
		booted += fmt.Sprintf(" and %d IMA entries", os.entries+os.hidden)
		if os.hidden > 0 {
			booted += fmt.Sprintf(" (of %d only the digest is shown)", os.hidden)
		}
		violations = os.violations
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
	if violations > 0 && a.claims.OSLogs == nil {
		return warn(fmt.Sprintf("%s replay to RTMR0–2; nothing vouches for what %d violations say", booted, violations), compared...)
	}
	return pass(booted+" replay to RTMR0–2", compared...)
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
	case a.private():
		return a.privateLog()
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

// private says that the daemon shows nothing of others' events.
func (a *appraisal) private() bool { return a.claims.Log.View == rpc.ViewPrivate }

// privateLog: what is shown is all the caller's or public; nothing replays.
func (a *appraisal) privateLog() Step {
	for i, e := range a.log {
		if e.event == nil {
			return fail(fmt.Sprintf("event %d is a digest, and the claims say that none of others is shown", i))
		}
	}
	switch anchor := a.claims.Log.Anchor; {
	case len(a.log) > a.claims.Log.Count:
		return fail(fmt.Sprintf("the claims count %d events, and %d are shown", a.claims.Log.Count, len(a.log)))
	case anchor != anchorRTMR3 && anchor != anchorReportData:
		return fail(fmt.Sprintf("unknown anchor %q", anchor))
	}
	return warn(fmt.Sprintf("RTMR3 was not judged: %d of %d events are shown, for the agent isolates containers wholly, and vouches for the log alone",
		len(a.log), a.claims.Log.Count))
}

// logClaims: the claims are of this log at that point, and no public event of
// it is hidden.
func (a *appraisal) logClaims() Step {
	if a.claims.Log.Count > len(a.log) && !a.private() {
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
	register := a.claimed
	compared := []Comparison{{"public register", a.claims.Log.Public.String(), public.String()}}
	if !a.private() {
		compared = append([]Comparison{{"log register", a.claims.Log.Register.String(), register.String()}}, compared...)
	}
	switch {
	case !a.private() && register != a.claims.Log.Register:
		return fail("the log replays to another register than the claims say", compared...)
	case public != a.claims.Log.Public:
		return fail("public events are hidden, or others are shown, than the claims say", compared...)
	}
	if a.private() {
		return pass(fmt.Sprintf("all %d public events are shown", publics), compared...)
	}
	return pass(fmt.Sprintf("the first %d events give the claimed log; all %d public ones are shown", a.claims.Log.Count, publics), compared...)
}
