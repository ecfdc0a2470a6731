package verify

import (
	"slices"
)

// rule says what a step's result means for the verdict.
type rule struct {
	name string
	fail Verdict // the verdict where the step fails
	must bool    // a step that was skipped is no more trusted than one that failed
}

// claimSteps are the steps on evidence with claims, in their order (APPRAISAL in
// cima-evidence(7)). Each is run even where an earlier one failed, so that a
// reader sees all that is wrong. Two things end it: evidence that can't be read;
// and, for the last seven, evidence that is not authentic, because they hold
// authentic evidence against reference values.
var claimSteps = []rule{
	{StepFormat, Malformed, true},
	{StepQuote, NotAuthentic, true},
	{StepDebug, NotAuthentic, true},
	{StepCollateral, NotTrusted, false},
	{StepEnclave, NotAuthentic, false},
	{StepTCB, NotTrusted, false},
	{StepRevocation, NotAuthentic, false},
	{StepShared, NotAuthentic, false},
	{StepReportData, NotAuthentic, true},
	{StepAgent, NotAuthentic, true},
	{StepNonce, NotAuthentic, false},
	{StepBootLog, NotAuthentic, true},
	{StepRuntimeLog, NotAuthentic, true},
	{StepClaims, NotAuthentic, true},
	{StepCaller, NotAuthentic, true},
	{StepUserData, NotAuthentic, false},
	{StepPolicy, NotTrusted, false},
	{StepTD, NotTrusted, false},
	{StepBootValues, NotTrusted, true},
	{StepCallerValues, NotTrusted, true},
	{StepPower, NotTrusted, true},
	{StepEvents, NotTrusted, true},
	{StepNotProved, NotTrusted, true},
}

// bareSteps are the steps on a quote, and logs next to it, without claims: the
// evidence of other systems.
var bareSteps = []rule{
	{StepFormat, Malformed, true},
	{StepQuote, NotAuthentic, true},
	{StepDebug, NotAuthentic, true},
	{StepCollateral, NotTrusted, false},
	{StepEnclave, NotAuthentic, false},
	{StepTCB, NotTrusted, false},
	{StepRevocation, NotAuthentic, false},
	{StepNonce, NotAuthentic, false},
	{StepBootLog, NotAuthentic, false},
	{StepRuntimeLog, NotAuthentic, false},
	{StepUserData, NotAuthentic, false},
	{StepPolicy, NotTrusted, false},
	{StepTD, NotTrusted, false},
	{StepBootValues, NotTrusted, false},
	{StepCallerValues, NotTrusted, false},
	{StepNotProved, NotTrusted, false},
}

// begin makes a result without any step yet.
func begin(rules []rule, opts Options) *Result {
	r := &Result{Verdict: Trusted, Proved: []Statement{}, NotProved: []Statement{}, rules: rules, Verifier: opts.Verifier, Time: opts.at().UTC()}
	if opts.Policy != nil {
		r.Policy = opts.Policy.Sources
	}
	return r
}

// add appends the result of the named step, and lets it bear on the verdict. The
// first of the gravest steps is the reason.
func (r *Result) add(name string, s Step) {
	rule := r.rules[slices.IndexFunc(r.rules, func(rule rule) bool { return rule.name == name })]
	s.Name = name
	r.Steps = append(r.Steps, s)
	verdict := Trusted
	switch {
	case s.Outcome == Fail:
		verdict = rule.fail
	case s.Outcome == Skip && rule.must:
		verdict = NotTrusted
	}
	if verdict.gravity() > r.Verdict.gravity() {
		r.Verdict, r.Reason = verdict, s.Name+": "+s.Detail
	}
	r.ExitCode = r.Verdict.ExitCode()
}

// skipRest skips all steps that were not run.
func (r *Result) skipRest(why string) {
	for _, rule := range r.rules[len(r.Steps):] {
		r.add(rule.name, skip(why))
	}
}

// malformed ends an appraisal of what can't be read.
func (r *Result) malformed(err error, hint string) *Result {
	r.add(StepFormat, fail(err.Error()))
	r.skipRest("it can't be read")
	r.NotProved, r.Hint = []Statement{{Code: StepFormat, Text: "anything: it can't be read"}}, hint
	return r
}

func (v Verdict) gravity() int {
	switch v {
	case Trusted, Authentic:
		return 0
	case NotTrusted:
		return 1
	case NotAuthentic:
		return 2
	}
	return 3
}

func pass(detail string, compared ...Comparison) Step {
	return Step{Outcome: Pass, Detail: detail, Compared: compared}
}

func fail(detail string, compared ...Comparison) Step {
	return Step{Outcome: Fail, Detail: detail, Compared: compared}
}

func warn(detail string, compared ...Comparison) Step {
	return Step{Outcome: Warn, Detail: detail, Compared: compared}
}

func skip(detail string) Step { return Step{Outcome: Skip, Detail: detail} }
