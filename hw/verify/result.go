package verify

import (
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

// Outcome is what a step came to.
type Outcome string

const (
	Pass Outcome = "pass" // checked, and so it is
	Fail Outcome = "fail" // checked, and so it is not
	Warn Outcome = "warn" // checked or accepted, and the reader should know of it
	Skip Outcome = "skip" // not checked; Detail says why
)

// Names of the steps, in their order. They don't change from version to
// version; new ones may come between them.
const (
	StepFormat       = "format"        // the bundle and all in it is well formed
	StepQuote        = "quote"         // the quote's signature, and the chain to a trusted root
	StepDebug        = "debug"         // the TD is not open to its host
	StepCollateral   = "collateral"    // what vouches for the platform's state is signed and in date
	StepEnclave      = "enclave"       // quoting enclave and TDX module are Intel's
	StepTCB          = "tcb"           // the platform's patch level
	StepRevocation   = "revocation"    // the certificates are not revoked
	StepShared       = "shared"        // a quote for many: the claims are a leaf of its tree
	StepReportData   = "report-data"   // REPORTDATA is the hash of the claims, or that tree's
	StepAgent        = "agent"         // the agent in the log signed
	StepNonce        = "nonce"         // the verifier's nonce is in the claims
	StepBootLog      = "boot-log"      // boot and OS logs replay to RTMR0–2
	StepRuntimeLog   = "runtime-log"   // the runtime log replays to RTMR3
	StepClaims       = "log-claims"    // its prefix gives the registers in the claims
	StepCaller       = "caller"        // container or host process: register, launch digest, own events
	StepUserData     = "user-data"     // what the channel was bound to
	StepBootValues   = "boot-values"   // reference values: who wrote what was booted?
	StepCallerValues = "caller-values" // reference values: launch, image, how it was started; or the unit
	StepPower        = "power"         // reference values: containers that could act as root
	StepEvents       = "events"        // reference values: anchor, agent key, events required and forbidden
)

// Step is one step's result.
type Step struct {
	Name     string       `json:"name"`
	Outcome  Outcome      `json:"outcome"`
	Detail   string       `json:"detail"`             // plain words, one line
	Compared []Comparison `json:"compared,omitempty"` // what was held against what
}

// Comparison is two values that a step held against each other; Want is what
// the other evidence, the caller or the policy says it should be.
type Comparison struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// Verdict is the result in one word.
type Verdict string

const (
	Trusted      Verdict = "trusted"
	Authentic    Verdict = "authentic" // a bare quote that was held against no policy
	NotAuthentic Verdict = "not authentic"
	NotTrusted   Verdict = "authentic, not trusted"
	Malformed    Verdict = "malformed"
)

// ExitCode is what cimactl verify exits with. A tool error is 1 and a network
// error 3: those are errors of Appraise, not results.
func (v Verdict) ExitCode() int {
	switch v {
	case Trusted, Authentic:
		return 0
	case NotAuthentic:
		return 2
	case NotTrusted:
		return 4
	case Malformed:
		return 5
	}
	return 1
}

// Result is an attestation result (RFC 9334). Its JSON form is stable:
// members are added, never renamed.
type Result struct {
	Verdict  Verdict `json:"verdict"`
	ExitCode int     `json:"exit_code"`
	Reason   string  `json:"reason"`         // why this verdict, one line
	Hint     string  `json:"hint,omitempty"` // what to do about it

	Steps     []Step   `json:"steps"`
	Proved    []string `json:"proved"`     // plain words, each with what proves it
	NotProved []string `json:"not_proved"` // plain words

	// What follows is read from the evidence. It is worth as much as the
	// verdict says.

	Registers *Registers  `json:"registers,omitzero"` // the quote's
	TCB       *dcap.TCB   `json:"tcb,omitzero"`       // where collateral was given
	Claims    *rpc.Claims `json:"claims,omitzero"`
	Events    []Event     `json:"events,omitempty"` // the runtime log's

	rules []rule      // of its steps, in their order
	seen  policy.Seen // for InitPolicy: the boot and the TD
}

// Registers are the measurement registers in a quote.
type Registers struct {
	MRTD rpc.Digest    `json:"mrtd"`
	RTMR [4]rpc.Digest `json:"rtmr"`
}

func registersOf(r hw.Registers) *Registers {
	out := &Registers{MRTD: r.MRTD}
	for i, v := range r.RTMR {
		out.RTMR[i] = v
	}
	return out
}

// Event is one event of the runtime log as the evidence shows it.
type Event struct {
	Position  int        `json:"position"`
	Operation string     `json:"operation,omitempty"` // empty: somebody else's, only its digest is shown
	Container string     `json:"container,omitempty"`
	Measured  any        `json:"measured,omitzero"` // the event's JSON
	Digest    rpc.Digest `json:"digest"`            // what extended RTMR3
	Judged    bool       `json:"judged"`            // false: it came after the claims were fixed
}

// Step returns the result of the named step, nil where there is none.
func (r *Result) Step(name string) *Step {
	for i := range r.Steps {
		if r.Steps[i].Name == name {
			return &r.Steps[i]
		}
	}
	return nil
}

// Failed are the steps that failed, in order.
func (r *Result) Failed() []Step {
	var failed []Step
	for _, s := range r.Steps {
		if s.Outcome == Fail {
			failed = append(failed, s)
		}
	}
	return failed
}
