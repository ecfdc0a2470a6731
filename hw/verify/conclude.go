package verify

import (
	"errors"
	"fmt"
	"strings"
)

// conclude says in plain words what the steps add up to.
func (a *appraisal) conclude(r *Result) {
	r.Proved, r.NotProved = []string{}, []string{}
	if r.Verdict == Malformed {
		r.NotProved = append(r.NotProved, "anything: the bundle can't be read")
		r.Hint = "get the evidence again; it is refused wherever a byte of it could change unnoticed"
		return
	}
	a.proved(r)
	a.notProved(r)
	r.Hint = a.hint(r)
}

func (r *Result) passed(name string) bool {
	s := r.Step(name)
	return s != nil && (s.Outcome == Pass || s.Outcome == Warn)
}

// proved lists what holds; a later line rests on the ones before it, so the
// list ends where one fails.
func (a *appraisal) proved(r *Result) {
	say := func(format string, args ...any) { r.Proved = append(r.Proved, fmt.Sprintf(format, args...)) }
	if !r.passed(StepQuote) {
		return
	}
	say("a TD with these registers exists: its quote's chain ends in %s", rootName(a.quote.Chain[chainLength-1]))
	if !r.passed(StepReportData) || !r.passed(StepAgent) {
		return
	}
	say("the claims are the agent's: the quote holds their hash, and the key of the log's start event signed them")
	if r.passed(StepNonce) {
		say("they are fresh: your nonce is among them")
	}
	if r.passed(StepBootLog) {
		say("the boot log is this TD's: it replays to RTMR0–2")
	}
	if r.Step(StepRuntimeLog).Outcome == Pass && r.passed(StepClaims) {
		say("the runtime log is whole: it replays to RTMR3, and hides no public event")
	}
	if r.passed(StepCaller) && a.claims.Container != nil {
		say("the agent logged the container's launch: %s", a.launchWords())
	}
	if r.passed(StepUserData) {
		say("the container's channel is the one you see: the user data is as expected")
	}
	if r.passed(StepBootValues) {
		say("you know who wrote firmware, kernel and agent: the boot is %q in the policy", a.boot)
	}
	if r.passed(StepCallerValues) {
		say("you know who asked: %s", r.Step(StepCallerValues).Detail)
	}
}

func (a *appraisal) launchWords() string {
	image := a.instance.image.Reference
	if image == "" {
		image = "an image that is not known"
	}
	return fmt.Sprintf("%s, launch digest %.16s…", image, a.instance.digest)
}

// notProved lists what a reader could take for proved and is not.
func (a *appraisal) notProved(r *Result) {
	say := func(format string, args ...any) { r.NotProved = append(r.NotProved, fmt.Sprintf(format, args...)) }
	for _, s := range r.Failed() {
		say("%s: %s", s.Name, s.Detail)
	}
	if r.passed(StepQuote) && a.opts.TrustRoots != nil {
		say("that this is hardware: the root was given by you, it is not built in")
	}
	if r.Step(StepBootValues).Outcome == Skip {
		say("who wrote it: no reference value covers the boot, so the agent's word is anybody's")
	}
	if r.Step(StepDebug).Outcome == Warn {
		say("that the host keeps out: the TD is under debug")
	}
	if r.Step(StepTCB).Outcome == Skip {
		say("that the platform is patched and its certificates not revoked: no collateral")
	}
	if r.Step(StepNonce).Outcome == Skip {
		say("that it is fresh: no nonce")
	}
	if a.newKey() {
		say("that one agent wrote the log: it has another key since a restart")
	}
	if a.claims.Log.Anchor == anchorReportData {
		say("that the log is whole: RTMR3 is not its anchor, the agent's word is")
	}
	if r.Step(StepUserData).Outcome == Skip {
		say("who is at the other end (channel: not bound): a nonce can be relayed")
	}
	a.notProvedOfCaller(say)
}

func (a *appraisal) notProvedOfCaller(say func(string, ...any)) {
	if a.claims.Host != nil {
		say("what the host process runs: unit and uid are the agent's word")
		return
	}
	as := a.claims.Container.Assurance
	if as.Start != "gated" {
		say("what ran before the container was measured: it was started first (%s)", orNone(as.Start))
	}
	if !as.PIDFD {
		say("that the caller was that very process: the kernel gave its number only")
	}
	if as.CgroupOwner != 0 {
		say("that root started it: uid %d owns its cgroup", as.CgroupOwner)
	}
	if a.instance != nil && a.instance.image.Absent != "" {
		say("its image: %s", a.instance.image.Absent)
	}
	say("what lies in its volumes, or what did not run: a launch is what was asked for, and no exec event is no proof")
}

// hint is what to do about the verdict.
func (a *appraisal) hint(r *Result) string {
	failed := r.Failed()
	if len(failed) == 0 {
		switch {
		case r.Verdict == Trusted:
			return ""
		case r.Step(StepNonce).Outcome == Skip:
			return "send the container a nonce of your own and give it here"
		default:
			return "make reference values with \"cimactl policy init\", check them, and give them as the policy"
		}
	}
	var untrusted *untrustedRootError
	switch failed[0].Name {
	case StepQuote:
		if errors.As(a.untrusted, &untrusted) && strings.Contains(untrusted.root.Subject.String(), "NOT HARDWARE") {
			return "this is a simulated TD; for a test, give its root as the trust root"
		}
		return "evidence for which no trusted root vouches is worth nothing"
	case StepNonce:
		return "ask for evidence with the nonce that you verify with; this may be a replay"
	case StepDebug:
		return "start the TD without debug; nothing in it is confidential"
	}
	if r.Verdict == NotTrusted {
		return "if this is what you expect, put it in the policy; \"cimactl policy init\" shows how"
	}
	return "don't use this evidence"
}
