package verify

import (
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/firstseen"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

// Outcome is the result of a step in one word.
type Outcome string

const (
	Pass Outcome = "pass" // checked, and it holds
	Fail Outcome = "fail" // checked, and it does not hold
	Warn Outcome = "warn" // it holds or is accepted, with a limit that the reader must know
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
	StepPolicy       = "policy"        // the policy counts now, and nothing is revoked
	StepTD           = "td"            // reference values: attributes and configuration of the TD
	StepBootValues   = "boot-values"   // reference values: who wrote what was booted?
	StepCallerValues = "caller-values" // reference values: launch, image, how it was started; or the unit
	StepPower        = "power"         // reference values: containers that could act as root
	StepEvents       = "events"        // reference values: events required and forbidden
	StepNotProved    = "not-proved"    // nothing is left that stands in the way of trust, or the policy waives it
)

// Step is the result of one step.
type Step struct {
	Name     string       `json:"name"`
	Outcome  Outcome      `json:"outcome"`
	Detail   string       `json:"detail"`             // plain words, one line
	Compared []Comparison `json:"compared,omitempty"` // the values that were compared
}

// Comparison is two values that a step compared. Both are text: digests in
// lower-case hex, lists as "a or b", and "none" where there is no value.
type Comparison struct {
	What string `json:"what"` // name of the value
	Want string `json:"want"` // by other evidence, the verifier's options or the policy
	Got  string `json:"got"`  // in the evidence
}

// Verdict is the result in one word.
type Verdict string

const (
	Trusted      Verdict = "trusted"
	Authentic    Verdict = "authentic" // a quote without claims, judged without a policy
	NotAuthentic Verdict = "not authentic"
	NotTrusted   Verdict = "authentic, not trusted"
	Malformed    Verdict = "malformed"
)

// ExitCode is the exit code of cimactl verify: 0 trusted or authentic, 2 not
// authentic, 4 authentic and not trusted, 5 malformed. 1 and 3, for other errors
// and errors of the network, are for errors of Appraise.
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

	Verifier string          `json:"verifier,omitempty"` // the program that appraised, and its version
	Time     time.Time       `json:"time"`               // for which it was judged
	Root     *Root           `json:"root,omitzero"`      // that the quote's chain ends in, where it is trusted
	Policy   []policy.Source `json:"policy,omitempty"`   // the policy's files

	// Boot and Container are what the policy calls those that fit.
	Boot      *policy.Boot      `json:"boot,omitzero"`
	Container *policy.Container `json:"container,omitzero"`

	Steps     []Step      `json:"steps"`
	Proved    []Statement `json:"proved"`     // each with what proves it
	NotProved []Statement `json:"not_proved"` // what a reader could take for proved, and is not

	// The members below are read from the evidence: see Verdict for what they
	// are worth.

	Registers *Registers     `json:"registers,omitzero"` // the quote's, of a TD
	Guest     *guest.Guest   `json:"snp,omitzero"`       // of an SNP guest
	TCB       *dcap.TCBLevel `json:"tcb,omitzero"`       // where collateral was given
	Claims    *rpc.Claims    `json:"claims,omitzero"`
	Events    []Event        `json:"events,omitempty"` // the runtime log's, in its order

	rules []rule         // of its steps, in their order
	seen  firstseen.Seen // for InitPolicy: the boot and the TD
	gaps  []gap
}

// Statement is one thing that is proved, or not. Codes don't change from version to
// version: cima-policy(5), NOT PROVED, has those of what is not proved; a step's name
// stands for a step that failed.
type Statement struct {
	Code   string `json:"code"`
	Text   string `json:"text"`            // for people
	Stands bool   `json:"stands,omitzero"` // it stands in the way of trust
	Waived bool   `json:"waived,omitzero"` // it would, and the policy waives it
}

// Root is the certificate that vouches for the hardware.
type Root struct {
	Kind   string `json:"kind"` // "built-in", "given" or "simulated"
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Registers are the measurement registers in a quote.
type Registers struct {
	MRTD rpc.Digest    `json:"mrtd"`
	RTMR [4]rpc.Digest `json:"rtmr"`
}

// Event is one event of the runtime log as the evidence shows it.
type Event struct {
	Position  int        `json:"position"`
	Operation string     `json:"operation,omitempty"` // empty: another caller's event, of which only the digest is shown
	Container string     `json:"container,omitempty"`
	Measured  any        `json:"measured,omitzero"` // the event's JSON
	Digest    rpc.Digest `json:"digest"`            // what extended RTMR3
	Judged    bool       `json:"judged"`            // false: it came after the claims were fixed
}

// Step returns the result of the named step, nil where the appraisal has none.
func (r *Result) Step(name string) *Step {
	for i := range r.Steps {
		if r.Steps[i].Name == name {
			return &r.Steps[i]
		}
	}
	return nil
}

// outcome is the result of a step, "" where the appraisal has none.
func (r *Result) outcome(name string) Outcome {
	if s := r.Step(name); s != nil {
		return s.Outcome
	}
	return ""
}

// Failed returns the steps that failed, in order.
func (r *Result) Failed() []Step {
	var failed []Step
	for _, s := range r.Steps {
		if s.Outcome == Fail {
			failed = append(failed, s)
		}
	}
	return failed
}
