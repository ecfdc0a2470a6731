package verify

import (
	"cmp"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/logs"
)

// conclusion puts the results of all steps into sentences.
type conclusion struct {
	*Result
	ev       *evidence
	opts     Options
	platform platform
	keys     agentKeys
	instance *instance
	boot     string // the name of the boot that fits
}

func (c *conclusion) write() {
	c.listProved()
	c.listNotProved()
	c.Hint = c.hint(c.ev.quote, c.platform, c.opts)
}

// passed reports whether all these steps passed, with or without a warning.
func (r *Result) passed(names ...string) bool {
	for _, name := range names {
		if s := r.Step(name); s.Outcome != Pass && s.Outcome != Warn {
			return false
		}
	}
	return true
}

// proves and leaves add a line to what was proved, and what was not.
func (r *Result) proves(format string, args ...any) {
	r.Proved = append(r.Proved, fmt.Sprintf(format, args...))
}

func (r *Result) leaves(format string, args ...any) {
	r.NotProved = append(r.NotProved, fmt.Sprintf(format, args...))
}

// listProved lists what holds. Each line rests on the ones before it, so the list
// ends where one doesn't hold.
func (c *conclusion) listProved() {
	if !c.passed(StepQuote) {
		return
	}
	c.proves("a TD has these registers: its quote's chain ends in %s", dcap.RootName(c.ev.quote.Root()))
	if c.passed(StepEnclave, StepTCB, StepRevocation) {
		c.proves("its platform stands well with Intel: TCB %s", c.Step(StepTCB).Detail)
	}
	if !c.passed(StepDebug, StepReportData, StepAgent, StepRuntimeLog, StepClaims) {
		return
	}
	if c.ev.claims.Log.Anchor == logs.AnchorRTMR3 && !c.ev.private() {
		c.proves("the runtime log is whole: it replays to RTMR3, and no public event is hidden")
	}
	c.proves("the claims are the agent's: %s, and the key in the log signed them", c.ev.boundWords())
	if c.passed(StepNonce) {
		c.proves("they are fresh: your nonce is among them")
	}
	if c.passed(StepUserData) {
		c.proves("the channel is the caller's: its user data is among them")
	}
	if c.passed(StepCaller) && c.ev.claims.Container != nil && !c.instance.Earlier {
		c.proves("the agent logged what was started: %s", c.launchWords())
	}
	if !c.passed(StepBootLog, StepBootValues) {
		return
	}
	c.proves("you know who wrote firmware, kernel and agent: the boot %q in the policy", c.boot)
	if c.passed(StepCaller, StepCallerValues) && !c.takesAny() {
		c.proves("you know who asked: %s", c.Step(StepCallerValues).Detail)
	}
}

// takesAny reports whether the policy allows any caller.
func (c *conclusion) takesAny() bool {
	p := c.opts.Policy
	if p == nil {
		return true
	}
	if c.ev.claims.Host != nil {
		return p.Host.Any
	}
	return len(p.Container.LaunchDigests) == 0 && len(p.Container.ImageDigests) == 0
}

func (c *conclusion) launchWords() string {
	image := c.instance.Image.Reference
	if image == "" {
		image = "an image that is not known"
	}
	return fmt.Sprintf("%s, launch digest %.16s…", image, c.instance.digest)
}

// listNotProved lists what a reader could take for proved and is not.
func (c *conclusion) listNotProved() {
	for _, s := range c.Failed() {
		c.leaves("%s: %s", s.Name, s.Detail)
	}
	if c.Verdict == NotAuthentic {
		c.leaves("and nothing that rests on it")
		return
	}
	if c.opts.TrustRoots != nil {
		c.leaves("that this is hardware: the root was given by you, it is not built in")
	}
	if !c.passed(StepBootValues) {
		c.leaves("who wrote it: no reference value covers the boot, so the agent's word is anybody's")
	}
	if s := c.Step(StepDebug); s.Outcome == Warn {
		c.leaves("that the host keeps out: %s", s.Detail)
	}
	c.leavesOfPlatform()
	if c.Step(StepNonce).Outcome == Skip {
		c.leaves("that it is fresh: no nonce")
	}
	if c.keys.changed() {
		c.leaves("that one agent wrote the log: it has another key since a restart")
	}
	if c.ev.claims.Log.Anchor == logs.AnchorReportData {
		c.leaves("that the log is whole: RTMR3 is not its anchor, the agent's word is")
	}
	if c.ev.private() {
		c.leaves("that the log is whole: nothing is shown of other containers, so it doesn't replay; the agent's word is all")
	}
	if c.Step(StepUserData).Outcome == Skip {
		c.leaves("who is at the other end (channel: not bound): a nonce can be relayed")
	}
	if c.passed(StepCallerValues) && c.takesAny() {
		c.leaves("that the right one asked: the policy takes any; compare the claims yourself")
	}
	if c.missedLaunches() {
		c.leaves("that no other container could act as root of the guest: the log says that starts were missed")
	}
	c.leavesOfCaller()
}

// missedLaunches reports whether the log shows that containers were started
// unmeasured. One that ended before the daemon saw it could have had any power.
func (c *conclusion) missedLaunches() bool {
	return slices.ContainsFunc(c.ev.prefix(), func(e entry) bool {
		var missed logs.MissedBody
		return e.event != nil && e.event.Operation == logs.OpMissed &&
			(json.Unmarshal(e.event.Body(), &missed) != nil || missed.What != logs.MissedExec)
	})
}

// leavesOfPlatform adds what is not proved of the platform.
func (r *Result) leavesOfPlatform() {
	if r.Step(StepRevocation).Outcome == Skip {
		r.leaves("that the platform is patched and its certificates not revoked: no collateral, Intel's word on that (--online gets it)")
	} else if r.Step(StepTCB).Outcome == Warn {
		r.leaves("that the platform is patched: %s", r.Step(StepTCB).Detail)
	}
}

// leavesOfCaller adds what is not proved of the caller.
func (c *conclusion) leavesOfCaller() {
	if c.ev.claims.Host != nil {
		c.leaves("what the host process runs: unit and uid are the agent's word")
		return
	}
	as := c.ev.claims.Container.Assurance
	if as.Start != logs.StartGated {
		c.leaves("what ran before the container was measured: it was started first (%s)", cmp.Or(as.Start, "none"))
	}
	if !as.PIDFD {
		c.leaves("that the caller was that very process: the kernel gave its number only")
	}
	if as.CgroupOwner != 0 {
		c.leaves("that root started it: uid %d owns its cgroup", as.CgroupOwner)
	}
	if c.instance != nil && c.instance.Launch != nil && c.instance.Earlier {
		c.leaves("what was asked for when it was started: %s; start it again", loggedEarlier)
	}
	if c.instance != nil && c.instance.Image.Absent != "" {
		c.leaves("its image: %s", c.instance.Image.Absent)
	}
	if c.instance != nil {
		if words := placesWords(c.instance.places); words != "" {
			c.leaves("that its mounts are of the places that were asked for: %s", words)
		}
	}
	c.leaves("what lies in its volumes: a launch is what was asked for")
	c.leaves("that nothing else ran: a program without an exec event may have run all the same")
}

// outOfDate reports whether a certificate of the quote's chain is not valid at
// the time.
func outOfDate(q *dcap.Quote, at time.Time) bool {
	return slices.ContainsFunc(q.Chain, func(c *x509.Certificate) bool {
		return at.Before(c.NotBefore) || at.After(c.NotAfter)
	})
}

// hint says what to do about the verdict.
func (r *Result) hint(q *dcap.Quote, p platform, opts Options) string {
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
	var untrusted *dcap.UntrustedRootError
	switch failed[0].Name {
	case StepQuote:
		if errors.As(p.untrusted, &untrusted) && strings.Contains(untrusted.Root.Subject.String(), "NOT HARDWARE") {
			return "this is a simulated TD; for a test, give its root.pem as the trust root (--trust-root)"
		}
		if outOfDate(q, opts.at()) {
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
