package verify

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
)

// bareSteps judge a quote, and logs beside it, that come without claims:
// other systems' evidence. What is not given is not missed.
var bareSteps = []step{
	{StepFormat, Malformed, true, nil},
	{StepQuote, NotAuthentic, true, (*appraisal).quoteSignature},
	{StepDebug, NotAuthentic, true, (*appraisal).bareDebug},
	{StepCollateral, NotTrusted, false, nil},
	{StepEnclave, NotAuthentic, false, (*appraisal).enclave},
	{StepTCB, NotTrusted, false, (*appraisal).tcb},
	{StepRevocation, NotAuthentic, false, (*appraisal).revocation},
	{StepNonce, NotAuthentic, false, (*appraisal).bareNonce},
	{StepBootLog, NotAuthentic, false, (*appraisal).bareBootLog},
	{StepRuntimeLog, NotAuthentic, false, (*appraisal).bareRuntimeLog},
	{StepUserData, NotAuthentic, false, (*appraisal).bareUserData},
	{StepBootValues, NotTrusted, false, (*appraisal).bareBootValues},
}

// bare is what an appraisal has where there are no claims.
type bare struct {
	files    Files
	replayed *Replayed
	behind   []byte // the quote, in its file
}

// AppraiseQuote judges a quote, and the logs behind its registers as far as
// they are given, by what they are: whose quote it is and whether the logs
// are its. Without a policy the best verdict is Authentic.
func AppraiseQuote(ctx context.Context, files Files, opts Options) (*Result, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if opts.UserData != nil {
		return nil, errors.New("a bare quote binds no user data beside its REPORTDATA: give all of that as the nonce")
	}
	a := &appraisal{opts: opts, bare: &bare{files: files}}
	return a.judge(ctx, a.readFiles(), bareSteps)
}

// bootLog is the boot log among the files, which was read before.
func (b *bare) bootLog() *boot.Log {
	log, err := boot.Parse(b.files.BootLog)
	if err != nil {
		return nil
	}
	return log
}

func (a *appraisal) readFiles() Step {
	b := a.bare
	q, behind, err := cutQuote(b.files.Quote)
	if err != nil {
		return fail(err.Error())
	}
	a.quote, b.behind = q, b.files.Quote[len(b.files.Quote)-behind:]
	if b.replayed, err = Replay(b.files, nil); err != nil {
		return fail(err.Error())
	}
	detail := fmt.Sprintf("quote version %d", q.Version)
	r := b.replayed
	if r.hasBoot {
		detail += fmt.Sprintf(", boot log of %d events", r.BootEvents)
	}
	if r.hasIMA {
		detail += fmt.Sprintf(", IMA log of %d entries", r.IMAEntries)
	}
	if r.hasRuntime {
		detail += fmt.Sprintf(", runtime log of %d events", r.RuntimeEvents)
	}
	if behind > 0 && bytes.Count(b.behind, []byte{0}) != behind {
		return warn(fmt.Sprintf("%s; %d bytes behind the quote were left out", detail, behind))
	}
	return pass(detail)
}

// bareDebug: a quote says itself that its TD is under debug. Where nobody
// says what is wanted, that is for the reader to know.
func (a *appraisal) bareDebug() Step {
	s := a.debug()
	if s.Outcome == Fail && a.opts.Policy == nil {
		s.Outcome = Warn
	}
	return s
}

// bareNonce: other systems put what they are given into REPORTDATA, padded
// with zeros.
func (a *appraisal) bareNonce() Step {
	if len(a.opts.Nonce) == 0 {
		return skip("no nonce was given to look for: the quote may be old")
	}
	var want hw.ReportData
	copy(want[:], a.opts.Nonce)
	c := Comparison{"REPORTDATA", hex.EncodeToString(want[:]), hex.EncodeToString(a.quote.ReportData[:])}
	if want != a.quote.ReportData {
		return fail("REPORTDATA is not the nonce: the quote was made for something else", c)
	}
	return pass("REPORTDATA is the nonce", c)
}

func (a *appraisal) bareBootLog() Step {
	r := a.bare.replayed
	if !r.hasBoot && !r.hasIMA {
		return skip("no boot log was given: nothing says what the registers mean")
	}
	matches := r.Against(a.quote.Registers)
	compared, s := compareMatches(matches[:3])
	detail := fmt.Sprintf("%d boot events", r.BootEvents)
	if r.hasIMA {
		detail += fmt.Sprintf(" and %d IMA entries", r.IMAEntries)
	}
	switch {
	case s != "":
		return fail(s, compared...)
	case matches[2].WithoutIMA:
		return warn(fmt.Sprintf("%d boot events replay to RTMR0–2; nothing vouches for %d IMA entries: no register holds them", r.BootEvents, r.IMAEntries), compared...)
	case r.Mismatched+r.Skipped > 0:
		return warn(fmt.Sprintf("%s replay to RTMR0–2; what %d entries say is not under their digests", detail, r.Mismatched+r.Skipped), compared...)
	case r.IMAViolations > 0:
		return warn(fmt.Sprintf("%s replay to RTMR0–2; nothing vouches for what %d violations say", detail, r.IMAViolations), compared...)
	}
	return pass(detail+" replay to RTMR0–2", compared...)
}

func (a *appraisal) bareRuntimeLog() Step {
	r := a.bare.replayed
	m := r.Against(a.quote.Registers)[3]
	if m.NothingKnown {
		return skip("no runtime log was given: nothing says what RTMR3 means")
	}
	compared, s := compareMatches([]Match{m})
	switch {
	case s == "" && m.Replayed == (hw.Digest{}):
		return pass("RTMR3 is zero: nothing extended it", compared...)
	case s == "":
		return pass("the events given replay to RTMR3", compared...)
	}
	if n, known := r.LastAgreement(&a.quote.Registers.RTMR[3]); known {
		s += fmt.Sprintf("; its first %d of %d events do", n, r.RuntimeEvents)
	}
	return fail(s, compared...)
}

func compareMatches(matches []Match) (compared []Comparison, differ string) {
	for _, m := range matches {
		if m.NothingKnown {
			continue
		}
		compared = append(compared, Comparison{m.Name, m.Quoted.String(), m.Replayed.String()})
		if !m.Agrees && differ == "" {
			differ = m.Name + " holds something else than the log replays to"
		}
	}
	return compared, differ
}

func (a *appraisal) bareUserData() Step {
	return skip("channel: not bound: a bare quote says nothing of who presents it")
}

func (a *appraisal) bareBootValues() Step {
	s := a.bootValues()
	if s.Outcome == Skip && a.opts.Policy != nil {
		s.Outcome = Fail // a policy that was given is to be met
	}
	return s
}

// concludeBare says in plain words what a bare quote comes to.
func (a *appraisal) concludeBare(r *Result) {
	if r.Verdict == Trusted && a.opts.Policy == nil {
		r.Verdict, r.ExitCode = Authentic, Authentic.ExitCode()
	}
	say := func(to *[]string, format string, args ...any) { *to = append(*to, fmt.Sprintf(format, args...)) }
	if r.passed(StepQuote) {
		say(&r.Proved, "a TD has these registers: its quote's chain ends in %s", rootName(a.quote.Chain[chainLength-1]))
		for _, name := range []string{StepNonce, StepBootLog, StepRuntimeLog} {
			if r.passed(name) {
				say(&r.Proved, "%s", r.Step(name).Detail)
			}
		}
		if r.passed(StepBootValues) {
			say(&r.Proved, "you know who wrote firmware and kernel: the boot %q in the policy", a.boot)
		}
	}
	for _, s := range r.Failed() {
		say(&r.NotProved, "%s: %s", s.Name, s.Detail)
	}
	if s := r.Step(StepDebug); s.Outcome == Warn {
		say(&r.NotProved, "that the host keeps out: %s", s.Detail)
	}
	if a.opts.TrustRoots != nil {
		say(&r.NotProved, "that this is hardware: the root was given by you, it is not built in")
	}
	if !r.passed(StepBootValues) {
		say(&r.NotProved, "who wrote what was booted: no reference value covers it")
	}
	a.notProvedOfPlatform(r, func(format string, args ...any) { say(&r.NotProved, format, args...) })
	if r.Step(StepNonce).Outcome == Skip {
		say(&r.NotProved, "that it is fresh: no nonce")
	}
	if a.opts.Policy != nil {
		say(&r.NotProved, "what the policy wants of agent, containers, host processes, power and events: a bare quote tells of none")
	}
	say(&r.NotProved, "who is at the other end (channel: not bound), and which program asked for the quote")
	r.Hint = a.hint(r)
	if r.Verdict == Authentic {
		r.Hint = ""
	}
}
