package verify

import (
	"context"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// appraisal is one bundle under examination. format fills it in; the steps
// after it read.
type appraisal struct {
	opts       Options
	evidence   *rpc.Evidence
	claims     *rpc.Claims
	quote      *Quote
	reportData [64]byte    // of the claims, as received
	bootLog    *boot.Log   // nil where the claims are of other bytes
	log        []entry     // the runtime log
	register   hw.Digest   // its replay
	claimed    hw.Digest   // its replay up to claims.log.count
	instance   *instance   // set by caller: what the log says of the container
	keys       []agentKey  // set by agent: of the start events in the prefix
	boot       string      // set by bootValues: name of the boot that matched
	inTree     bool        // set by shared: the proof leads to the quote
	untrusted  error       // set by quoteSignature: why, where it failed
	collateral *collateral // set by checkCollateral, where it can be used
	level      *TCB        // set by tcb
	bare       *bare       // a quote without claims; evidence and claims are nil then
}

// entry is one event of the runtime log, or only its digest.
type entry struct {
	digest hw.Digest
	event  *logs.Event
}

// step is one step of an appraisal: what it is called, what it means for the
// verdict when it doesn't pass, and the work.
type step struct {
	name string
	fail Verdict // the verdict where the step fails
	must bool    // Skip is no more trusted than Fail: NotTrusted
	run  func(*appraisal) Step
}

// steps in the order of DESIGN section 6. Each is run even where an earlier
// one failed, so that a reader sees all that is wrong; only a bundle that
// can't be read ends it, and reference values are for authentic evidence.
var steps = []step{
	{StepFormat, Malformed, true, nil}, // run by appraise: it makes the appraisal
	{StepQuote, NotAuthentic, true, (*appraisal).quoteSignature},
	{StepDebug, NotAuthentic, true, (*appraisal).debug},
	{StepCollateral, NotTrusted, false, nil}, // run by judge: it asks others
	{StepEnclave, NotAuthentic, false, (*appraisal).enclave},
	{StepTCB, NotTrusted, false, (*appraisal).tcb},
	{StepRevocation, NotAuthentic, false, (*appraisal).revocation},
	{StepShared, NotAuthentic, false, (*appraisal).shared},
	{StepReportData, NotAuthentic, true, (*appraisal).boundClaims},
	{StepAgent, NotAuthentic, true, (*appraisal).agent},
	{StepNonce, NotAuthentic, true, (*appraisal).nonce},
	{StepBootLog, NotAuthentic, true, (*appraisal).bootReplay},
	{StepRuntimeLog, NotAuthentic, true, (*appraisal).runtimeReplay},
	{StepClaims, NotAuthentic, true, (*appraisal).logClaims},
	{StepCaller, NotAuthentic, true, (*appraisal).caller},
	{StepUserData, NotAuthentic, false, (*appraisal).userData},
	{StepBootValues, NotTrusted, true, (*appraisal).bootValues},
	{StepCallerValues, NotTrusted, true, (*appraisal).callerValues},
	{StepPower, NotTrusted, true, (*appraisal).power},
	{StepEvents, NotTrusted, true, (*appraisal).events},
}

// byReference says whether a step holds authentic evidence against the
// relying party's reference values.
func (s step) byReference() bool {
	return s.fail == NotTrusted && (s.must || s.name == StepBootValues)
}

func appraise(ctx context.Context, bundle []byte, opts Options) (*Result, error) {
	a, format := parse(bundle, opts)
	return a.judge(ctx, format, steps)
}

// judge runs the steps behind format, the first one's result.
func (a *appraisal) judge(ctx context.Context, format Step, steps []step) (*Result, error) {
	format.Name = StepFormat
	r := &Result{Verdict: Trusted, Steps: []Step{format}}
	r.judge(steps[0], format)
	for _, s := range steps[1:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var got Step
		switch {
		case r.Verdict == Malformed:
			got = skip("it can't be read")
		case r.Verdict == NotAuthentic && s.byReference():
			got = skip("the evidence is not authentic")
		case s.name == StepCollateral:
			var err error
			if got, err = a.checkCollateral(ctx); err != nil {
				return nil, err
			}
		default:
			got = s.run(a)
		}
		got.Name = s.name
		r.Steps = append(r.Steps, got)
		r.judge(s, got)
	}
	r.ExitCode = r.Verdict.ExitCode()
	if r.Verdict != Malformed {
		r.Registers, r.TCB = registersOf(a.quote.Registers), a.level
	}
	if r.Verdict != Malformed && a.claims != nil {
		r.Claims, r.Events, r.booted = a.claims, a.shown(), a.booted()
	}
	a.conclude(r)
	return r, nil
}

// judge lets a step's result bear on the verdict. The first of the gravest
// steps is the reason.
func (r *Result) judge(s step, got Step) {
	verdict := Trusted
	switch {
	case got.Outcome == Fail:
		verdict = s.fail
	case got.Outcome == Skip && s.must:
		verdict = NotTrusted
	}
	if verdict.gravity() > r.Verdict.gravity() {
		r.Verdict, r.Reason = verdict, got.Name+": "+got.Detail
	}
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
