package verify

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
)

// conclusion puts the results of all steps into sentences.
type conclusion struct {
	*Result
	ev       *evidence.Bundle
	opts     Options
	platform onPlatform
	keys     evidence.Keys
	instance *instances.Instance
	boots    []policy.Boot // that fit
	caller   known
}

func (c *conclusion) write() {
	c.listProved()
	c.tellGaps(c.opts)
	if c.Verdict == NotAuthentic {
		c.leaves("rest", "and nothing that rests on it")
	}
	c.Hint = c.hint(c.platform, c.opts)
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
func (r *Result) proves(code, format string, args ...any) {
	r.Proved = append(r.Proved, Statement{Code: code, Text: fmt.Sprintf(format, args...)})
}

func (r *Result) leaves(code, format string, args ...any) {
	r.NotProved = append(r.NotProved, Statement{Code: code, Text: fmt.Sprintf(format, args...)})
}

// listProved lists what holds. Each line rests on the ones before it, so the list
// ends where one doesn't hold.
func (c *conclusion) listProved() {
	if !c.passed(StepQuote) {
		return
	}
	stands := "its platform stands well with Intel: TCB %s"
	if c.ev.SNP != nil {
		c.proves("quote", "an SNP guest was launched with this measurement: its report's chain ends in %s", c.Root.Name)
		stands = "its firmware is as new as the policy wants it: %s"
	} else {
		c.proves("quote", "a TD has these registers: its quote's chain ends in %s", dcap.RootName(c.ev.Quote.Root()))
	}
	if c.passed(StepEnclave, StepTCB, StepRevocation) {
		c.proves("platform", stands, c.Step(StepTCB).Detail)
	}
	if !c.passed(StepDebug, StepReportData, StepAgent, StepRuntimeLog, StepClaims) {
		return
	}
	if c.ev.Claims.Log.Anchor == logs.AnchorRTMR3 && !c.ev.Private() {
		c.proves("log", "the runtime log is whole: it replays to RTMR3, and no public event is hidden")
	}
	c.proves("claims", "the claims are the agent's: %s, and the key in the log signed them", boundWords(c.ev))
	if c.passed(StepNonce) {
		c.proves("nonce", "they are fresh: your nonce is among them")
	}
	if c.passed(StepUserData) {
		c.proves("channel", "the channel is the caller's: its user data is among them")
	}
	if c.passed(StepCaller) && c.ev.Claims.Container != nil && !c.instance.Earlier {
		c.proves("launch", "the agent logged what was started: %s", c.launchWords())
	}
	if !c.passed(StepBootLog, StepPolicy, StepTD, StepBootValues) || c.Boot == nil {
		return
	}
	c.proves("boot", "%s", c.Boot.Words())
	if c.Boot.VTPM != "" && c.ev.InPCR() && !slices.Contains(c.Boot.Gaps, codes.LogPCR) {
		c.proves("log", "the runtime log is whole: %s, and no public event is hidden", c.Step(StepRuntimeLog).Detail)
	}
	if codes.AgentUnknown(c.Boot.Gaps) {
		return
	}
	if c.passed(StepCaller, StepCallerValues) && !slices.Contains(c.caller.gaps, codes.AnyCaller) {
		c.proves("caller", "you know who asked: %s", c.Step(StepCallerValues).Detail)
	}
}

func (c *conclusion) launchWords() string {
	image := c.instance.Image.Reference
	if image == "" {
		image = "an image that is not known"
	}
	return fmt.Sprintf("%s, launch digest %.16s…", image, c.instance.LaunchSum)
}

// outOfDate reports whether a certificate of the quote's chain is not valid at
// the time.
func outOfDate(q *dcap.Quote, at time.Time) bool {
	return slices.ContainsFunc(q.Chain, func(c *x509.Certificate) bool {
		return at.Before(c.NotBefore) || at.After(c.NotAfter)
	})
}

// quoteHint says what to do about a signature or chain that is not trusted. root is the
// chain's, where that is the fault.
func quoteHint(root *x509.Certificate, outOfDate bool) string {
	switch {
	case root != nil && simulated(root):
		return "this is a simulated TD; for a test, give its root.pem as the trust root (--trust-root)"
	case outOfDate:
		return "a certificate isn't of the time that is judged for: see the clock, or judge as of when the quote was made (--at)"
	}
	return "evidence for which no trusted root vouches is worth nothing"
}

// hint says what to do about the verdict.
func (r *Result) hint(p onPlatform, opts Options) string {
	failed := r.Failed()
	if len(failed) == 0 {
		switch {
		case r.Verdict == Trusted:
			return ""
		case r.Step(StepNonce).Outcome == Skip:
			return "send the container a nonce of your own and give it here"
		case r.Policy != nil:
			return "name the boots and callers that you know in the policy: cima-policy(5)"
		default:
			return "make reference values with \"cimactl policy init\", check them, and give them as the policy"
		}
	}
	switch failed[0].Name {
	case StepQuote:
		return p.hint
	case StepNonce:
		return "ask for evidence with the nonce that you verify with; this may be a replay"
	case StepDebug:
		return "start the TD without debug and without migration; else nothing in it is confidential"
	}
	if r.Verdict == NotTrusted && failed[0].Name == StepNotProved && r.Step(StepBootValues).Outcome == Skip && r.Policy != nil {
		return "the policy names no boot, and so trusts nothing: \"cimactl policy init\" writes [[boot]] and [[container]] from evidence"
	}
	if r.Verdict == NotTrusted && failed[0].Name == StepPower {
		return "a container of this VM had this power since the boot, not this one perhaps: allow the class ([power] allow), or boot again and start none that has it"
	}
	if r.Verdict == NotTrusted && failed[0].Name == StepNotProved {
		return "prove it, or waive it by its name; cima-policy(5), NOT PROVED, says what each is worth"
	}
	if r.Verdict == NotTrusted && failed[0].Name == StepPolicy {
		return "the policy refuses it whatever else it says: it has run out, isn't in force yet, or revokes this"
	}
	if r.Verdict == NotTrusted {
		return "if this is what you expect, put it in the policy; \"cimactl policy init\" shows how"
	}
	return "don't use this evidence"
}
