package verify

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/logs"
)

// conclude says in plain words what the steps add up to.
func (a *appraisal) conclude(r *Result) {
	r.Proved, r.NotProved = []string{}, []string{}
	if r.Verdict == Malformed {
		r.NotProved = append(r.NotProved, "anything: it can't be read")
		r.Hint = "get the evidence again; it is refused wherever a byte of it could change unnoticed"
		if a.bare != nil {
			r.Hint = "see that each file is what it is given as; quotes are bytes as the hardware made them, neither base64 nor hex"
		}
		return
	}
	if a.bare != nil {
		a.concludeBare(r)
		return
	}
	a.proved(r)
	a.notProved(r)
	r.Hint = a.hint(r)
}

// passed says whether all these steps passed, with or without a warning.
func (r *Result) passed(names ...string) bool {
	for _, name := range names {
		if s := r.Step(name); s.Outcome != Pass && s.Outcome != Warn {
			return false
		}
	}
	return true
}

// proved lists what holds. Each line rests on the ones before it, so the list
// ends where one doesn't hold.
func (a *appraisal) proved(r *Result) {
	say := func(format string, args ...any) { r.Proved = append(r.Proved, fmt.Sprintf(format, args...)) }
	if !r.passed(StepQuote) {
		return
	}
	say("a TD has these registers: its quote's chain ends in %s", rootName(a.quote.Chain[chainLength-1]))
	if r.passed(StepEnclave, StepTCB, StepRevocation) {
		say("its platform stands well with Intel: TCB %s", r.Step(StepTCB).Detail)
	}
	if !r.passed(StepDebug, StepReportData, StepAgent, StepRuntimeLog, StepClaims) {
		return
	}
	if a.claims.Log.Anchor == anchorRTMR3 && !a.private() {
		say("the runtime log is whole: it replays to RTMR3, and no public event is hidden")
	}
	say("the claims are the agent's: %s, and the key in the log signed them", a.boundWords())
	if r.passed(StepNonce) {
		say("they are fresh: your nonce is among them")
	}
	if r.passed(StepUserData) {
		say("the channel is the caller's: its user data is among them")
	}
	if r.passed(StepCaller) && a.claims.Container != nil {
		say("the agent logged what was started: %s", a.launchWords())
	}
	if !r.passed(StepBootLog, StepBootValues) {
		return
	}
	say("you know who wrote firmware, kernel and agent: the boot %q in the policy", a.boot)
	if r.passed(StepCaller, StepCallerValues) && !a.takesAny() {
		say("you know who asked: %s", r.Step(StepCallerValues).Detail)
	}
}

// takesAny says whether the policy left open who may ask.
func (a *appraisal) takesAny() bool {
	p := a.opts.Policy
	if p == nil {
		return true
	}
	if a.claims.Host != nil {
		return p.Host.Any
	}
	return len(p.Container.LaunchDigests) == 0 && len(p.Container.ImageDigests) == 0
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
	if r.Verdict == NotAuthentic {
		say("and nothing that rests on it")
		return
	}
	if a.opts.TrustRoots != nil {
		say("that this is hardware: the root was given by you, it is not built in")
	}
	if !r.passed(StepBootValues) {
		say("who wrote it: no reference value covers the boot, so the agent's word is anybody's")
	}
	if s := r.Step(StepDebug); s.Outcome == Warn {
		say("that the host keeps out: %s", s.Detail)
	}
	a.notProvedOfPlatform(r, say)
	if r.Step(StepNonce).Outcome == Skip {
		say("that it is fresh: no nonce")
	}
	if a.newKey() {
		say("that one agent wrote the log: it has another key since a restart")
	}
	if a.claims.Log.Anchor == anchorReportData {
		say("that the log is whole: RTMR3 is not its anchor, the agent's word is")
	}
	if a.private() {
		say("that the log is whole: nothing is shown of other containers, so it doesn't replay; the agent's word is all")
	}
	if r.Step(StepUserData).Outcome == Skip {
		say("who is at the other end (channel: not bound): a nonce can be relayed")
	}
	if r.passed(StepCallerValues) && a.takesAny() {
		say("that the right one asked: the policy takes any; compare the claims yourself")
	}
	if a.missedLaunches() {
		say("that no other container could act as root of the guest: the log says that starts were missed")
	}
	a.notProvedOfCaller(say)
}

// missedLaunches says whether the log tells of containers that were started
// unmeasured: one that ended before it was seen had any power.
func (a *appraisal) missedLaunches() bool {
	return slices.ContainsFunc(a.prefix(), func(e entry) bool {
		var missed struct{ What string }
		return e.event != nil && e.event.Operation == logs.OpMissed &&
			(json.Unmarshal(e.event.Body(), &missed) != nil || missed.What != "exec")
	})
}

func (a *appraisal) notProvedOfPlatform(r *Result, say func(string, ...any)) {
	if r.Step(StepRevocation).Outcome == Skip {
		say("that the platform is patched and its certificates not revoked: no collateral, Intel's word on that (--online gets it)")
	} else if r.Step(StepTCB).Outcome == Warn {
		say("that the platform is patched: %s", r.Step(StepTCB).Detail)
	}
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
	say("what lies in its volumes: a launch is what was asked for")
	say("that nothing else ran: a program without an exec event may have run all the same")
}

// outOfDate says whether a certificate of the quote's is not yet, or no more, valid.
func (a *appraisal) outOfDate() bool {
	at := a.opts.At
	if at.IsZero() {
		at = time.Now()
	}
	return slices.ContainsFunc(a.quote.Chain, func(c *x509.Certificate) bool {
		return at.Before(c.NotBefore) || at.After(c.NotAfter)
	})
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
			return "this is a simulated TD; for a test, give its root.pem as the trust root (--trust-root)"
		}
		if a.outOfDate() {
			return "a certificate isn't of the time that is judged for: see the clock, or judge as of when the quote was made (--at)"
		}
		return "evidence for which no trusted root vouches is worth nothing"
	case StepNonce:
		return "ask for evidence with the nonce that you verify with; this may be a replay"
	case StepDebug:
		return "start the TD without debug and without migration; else nothing in it is confidential"
	}
	if r.Verdict == NotTrusted {
		return "if this is what you expect, put it in the policy; \"cimactl policy init\" shows how"
	}
	return "don't use this evidence"
}
