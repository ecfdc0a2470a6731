package verify

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/named"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs/boot"
)

// bare is a quote without claims, with the logs next to it.
type bare struct {
	files    replay.Files
	quote    *dcap.Quote
	form     string // of the file: "hex", "base64", "CMW"; "" for the bytes themselves
	behind   []byte // what stands behind the quote in its file
	replayed *replay.Replayed
}

// AppraiseQuote judges one quote, as an Appraiser that is made for it.
func AppraiseQuote(ctx context.Context, files replay.Files, opts Options) (*Result, error) {
	a, err := NewAppraiser(opts)
	if err != nil {
		return nil, err
	}
	return a.AppraiseQuote(ctx, files, opts.Asked)
}

// judgeBare runs the steps on a quote that could be read.
func (r *Result) judgeBare(ctx context.Context, b *bare, opts Options) (*Result, error) {
	r.add(StepFormat, b.format())
	p, err := r.judgePlatform(ctx, b.quote, bareDebug(b.quote, opts), nil, opts)
	if err != nil {
		return nil, err
	}
	r.add(StepNonce, bareNonce(b.quote, opts))
	r.add(StepBootLog, bareBootLog(b))
	r.add(StepRuntimeLog, bareRuntimeLog(b))
	r.add(StepUserData, skip("channel: not bound: a bare quote says nothing of who presents it"))
	r.seen.Booted = b.booted()
	if r.Verdict == NotAuthentic {
		r.skipRest(notAuthentic)
	} else if err := r.judgeBareValues(b.quote, opts); err != nil {
		return nil, err
	}
	r.concludeBare(b.quote, p, opts)
	return r, nil
}

// judgeBareValues holds an authentic quote against the reference values. A policy that was
// given must be met: what wasn't given with the quote is missed.
func (r *Result) judgeBareValues(q *dcap.Quote, opts Options) error {
	r.add(StepPolicy, policyCounts(func(yield func(what, digest string) bool) { named.OfQuote(q, r.seen.Booted, yield) }, opts))
	r.add(StepTD, tdValues(q, opts))
	s, boots, err := bootValues(r.seen.Booted, opts)
	if err != nil {
		return err
	}
	if s.Outcome == Skip && opts.Policy != nil {
		s.Outcome = Fail
	}
	r.add(StepBootValues, s)
	if len(boots) > 0 {
		r.Boot = &boots[0]
	}
	r.add(StepCallerValues, bareCaller(opts))
	var g gapList
	g.ofQuote(r, q, r.Boot, opts)
	r.gaps = g
	r.add(StepNotProved, r.notProved(opts))
	return nil
}

// bareCaller: a quote without claims tells of no container, no power and no event.
func bareCaller(opts Options) Step {
	if opts.Policy == nil {
		return skip(noPolicy)
	}
	if _, callers := opts.Policy.Knows(); callers {
		return fail("the policy says who may ask, and a bare quote tells of nobody")
	}
	return skip("the policy says nothing of callers")
}

// readBare reads the quote, and replays the logs.
func readBare(files replay.Files) (*bare, error) {
	quote, form := dcap.Plain(files.Quote)
	q, behind, err := dcap.CutQuote(quote)
	if err != nil {
		return nil, err
	}
	files.Quote = quote
	replayed, err := replay.Run(files, nil)
	if err != nil {
		return nil, err
	}
	return &bare{files, q, form, files.Quote[len(files.Quote)-behind:], replayed}, nil
}

// format is the result of the step format for files that could be read.
func (b *bare) format() Step {
	detail := fmt.Sprintf("quote version %d", b.quote.Version)
	r := b.replayed
	if b.form != "" {
		detail += ", in " + b.form
	}
	if b.files.BootLog != nil {
		detail += fmt.Sprintf(", boot log of %d events", r.BootEvents)
	}
	if b.files.IMALog != nil {
		detail += fmt.Sprintf(", IMA log of %d entries", r.IMAEntries)
	}
	if b.files.RuntimeLog != nil {
		detail += fmt.Sprintf(", runtime log of %d events", r.RuntimeEvents)
	}
	if n := len(b.behind); n > 0 && bytes.Count(b.behind, []byte{0}) != n {
		return warn(fmt.Sprintf("%s; %d bytes behind the quote were left out", detail, n))
	}
	return pass(detail)
}

// booted is what the boot itself left, as far as the logs given show it.
func (b *bare) booted() policy.Booted {
	now := bootedOf(b.quote)
	if b.files.BootLog == nil {
		return now
	}
	now.Further = b.files.IMALog != nil && b.quote.Registers.RTMR[2] != b.replayed.Booted[2]
	now.Begun = replay.BeginsIMA(b.files.IMALog)
	if b.replayed.OtherRegisters { // the boot log is not all of the boot
		now.Further, now.Begun = true, false
	}
	log, err := boot.Parse(b.files.BootLog)
	if err != nil {
		return now
	}
	return withLog(now, log)
}

// bareDebug: a quote itself shows that its TD is under debug. Where no policy
// says what is wanted, the reader must know of it.
func bareDebug(q *dcap.Quote, opts Options) Step {
	s := debug(q, opts)
	if s.Outcome == Fail && opts.Policy == nil {
		s.Outcome = Warn
	}
	return s
}

// bareNonce: other systems put the nonce itself into REPORTDATA, padded with
// zeros.
func bareNonce(q *dcap.Quote, opts Options) Step {
	switch {
	case len(opts.Nonce) == 0 && q.ReportData == hw.ReportData{}:
		return skip("REPORTDATA is zero: the quote was made for nobody, and may be old")
	case len(opts.Nonce) == 0:
		return skip("no nonce was given to look for: the quote may be old")
	}
	var want hw.ReportData
	copy(want[:], opts.Nonce)
	c := Comparison{"REPORTDATA", hex.EncodeToString(want[:]), hex.EncodeToString(q.ReportData[:])}
	if want != q.ReportData {
		return fail("REPORTDATA is not the nonce: the quote was made for something else", c)
	}
	if wrong, _ := opts.Policy.JudgeNonce(opts.NonceMade, opts.at()); wrong != "" {
		return fail(wrong, c)
	}
	return pass("REPORTDATA is the nonce", c)
}

func bareBootLog(b *bare) Step {
	r := b.replayed
	if b.files.BootLog == nil && b.files.IMALog == nil {
		return skip("no boot log was given: nothing says what the registers mean")
	}
	matches := r.Against(b.quote.Registers)
	compared, s := compareMatches(matches[:3])
	detail := fmt.Sprintf("%d boot events", r.BootEvents)
	if b.files.IMALog != nil {
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

func bareRuntimeLog(b *bare) Step {
	r := b.replayed
	m := r.Against(b.quote.Registers)[3]
	if m.NothingKnown {
		return skip("no runtime log was given: nothing says what RTMR3 means")
	}
	compared, s := compareMatches([]replay.Match{m})
	switch {
	case s == "" && m.Replayed == (hw.Digest{}):
		return pass("RTMR3 is zero: nothing extended it", compared...)
	case s == "":
		return pass("the events given replay to RTMR3", compared...)
	}
	if n, known := r.LastAgreement(&b.quote.Registers.RTMR[3]); known {
		s += fmt.Sprintf("; its first %d of %d events do", n, r.RuntimeEvents)
	}
	return fail(s, compared...)
}

func compareMatches(matches []replay.Match) (compared []Comparison, differ string) {
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

// concludeBare puts the results of all steps into sentences.
func (r *Result) concludeBare(q *dcap.Quote, p onPlatform, opts Options) {
	if r.Verdict == Trusted && opts.Policy == nil {
		r.Verdict, r.ExitCode = Authentic, Authentic.ExitCode()
	}
	if r.passed(StepQuote) {
		r.proves("quote", "a TD has these registers: its quote's chain ends in %s", dcap.RootName(q.Root()))
		for _, name := range []string{StepNonce, StepBootLog, StepRuntimeLog} {
			if r.passed(name) {
				r.proves(name, "%s", r.Step(name).Detail)
			}
		}
		if r.passed(StepPolicy, StepTD, StepBootValues) && r.Boot != nil {
			r.proves("boot", "%s", r.Boot.Words())
		}
	}
	r.tellGaps(opts)
	if s := r.Step(StepDebug); s.Outcome == Warn && opts.Policy == nil {
		r.leaves(StepDebug, "that the host keeps out: %s", s.Detail)
	}
	if opts.Policy != nil {
		r.leaves(codes.Power, "what the policy wants of power and events: a bare quote tells of none")
	}
	r.leaves("program", "which program asked for the quote")
	r.Hint = r.hint(p, opts)
	if r.Verdict == Authentic {
		r.Hint = ""
	}
}
