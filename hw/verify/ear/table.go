// Package ear answers: what does an appraisal say to those who read attestation results?
//
// It writes the result of package verify as an EAT attestation result (EAR), a signed JWT
// that others read: Trustee, OPA, gateways. The standard library signs it.
package ear

import (
	"slices"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/codes"
)

// Values of a trustworthiness vector (draft-ietf-rats-ar4si), as far as they are used.
// Values from 32 on are warnings, those from 96 on speak against it.
const (
	affirmed     = 2  // as it should be
	bootAffirmed = 3  // executables: those of the boot are known, and not all that ran since
	limited      = 32 // known, with a limit
	unrecognized = 33 // executables: some are not known
	contradicted = 96 // known, and not as it should be
	unknown      = 97 // not known: identity
	unproved     = 99 // a signature or a hash doesn't hold
)

// Tiers of values.
const (
	warningFrom = 32
	contraFrom  = 96
)

// row says from which steps a member of the vector comes. A step that was skipped, or a
// gap that leaves it out, leaves no claim: absence means that nothing is proved.
type row struct {
	member string
	value  int    // where all steps pass
	needs  []need // the worst counts
	gaps   map[string]int
}

type need struct {
	step string
	warn int // the value where the step passes with a limit; 0: as if it passed
	fail int // where it fails; 0: its failure is an appraisal that is not authentic
}

// leftOut is the value of a gap that leaves no claim.
const leftOut = -1

// rows are the whole mapping, in the order of the vector. Nothing is proved of file
// systems, of storage and of sourced data, so they have no row. A policy can waive what
// stands in the way, and then the verdict is trusted: a member says no more than without.
var rows = []row{
	{"instance-identity", affirmed,
		[]need{{verify.StepCaller, limited, 0}, {verify.StepCallerValues, 0, unknown}},
		map[string]int{codes.AnyCaller: leftOut, codes.HostProcess: leftOut, codes.Start: limited, codes.Mounts: limited, codes.AgentKey: limited}},
	{"configuration", affirmed,
		[]need{{verify.StepDebug, contradicted, 0}, {verify.StepTD, 0, contradicted}, {verify.StepPower, 0, contradicted}, {verify.StepEvents, 0, contradicted}},
		map[string]int{codes.Power: limited, codes.Anchor: limited, codes.LogPCR: limited, codes.NoRegister: limited, codes.Private: limited, codes.MissedLaunch: limited}},
	{"executables", affirmed,
		[]need{{verify.StepBootValues, 0, unrecognized}},
		map[string]int{codes.Executions: bootAffirmed, codes.BootFirmware: leftOut, codes.Paravisor: leftOut, codes.Root: leftOut,
			codes.PCRsVary: limited, codes.BootVaries: limited, codes.FirmwareVaries: limited}},
	{"hardware", affirmed,
		[]need{{verify.StepQuote, 0, 0}, {verify.StepCollateral, 0, 0}, {verify.StepEnclave, 0, 0}, {verify.StepTCB, limited, contradicted}, {verify.StepRevocation, 0, 0}},
		map[string]int{codes.RootSimulated: leftOut}},
	{"runtime-opaque", affirmed,
		[]need{{verify.StepQuote, 0, 0}, {verify.StepDebug, contradicted, 0}},
		nil},
}

// allMembers are those of which a bad signature leaves nothing.
var allMembers = []string{"instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque", "storage-opaque", "sourced-data"}

// vector maps an appraisal.
func vector(r *verify.Result) map[string]int {
	v := make(map[string]int)
	if r.Verdict == verify.NotAuthentic || r.Verdict == verify.Malformed {
		for _, m := range allMembers {
			v[m] = unproved
		}
		return v
	}
	for _, row := range rows {
		if n := row.of(r); n > 0 {
			v[row.member] = n
		}
	}
	return v
}

// of is the row's value, or leftOut. A step that failed counts even where others were
// skipped.
func (w row) of(r *verify.Result) int {
	worst, skipped := w.value, false
	for _, n := range w.needs {
		switch s := r.Step(n.step); {
		case s == nil || s.Outcome == verify.Skip || s.Outcome == verify.Fail && n.fail == 0:
			skipped = true
		case s.Outcome == verify.Fail:
			worst = max(worst, n.fail)
		case s.Outcome == verify.Warn:
			worst = max(worst, n.warn)
		}
	}
	for code, value := range w.gaps {
		switch there := has(r, code); {
		case there && value == leftOut:
			skipped = true
		case there:
			worst = max(worst, value)
		}
	}
	if skipped && worst < warningFrom {
		return leftOut
	}
	return worst
}

func has(r *verify.Result, code string) bool {
	if code == codes.Executions && (r.Claims == nil || r.Claims.Container == nil) {
		return true // executions are listed of containers alone
	}
	return slices.ContainsFunc(r.NotProved, func(s verify.Statement) bool { return s.Code == code })
}

// status is the tier of the worst value, and never better than the verdict: only what is
// trusted is affirming.
func status(r *verify.Result, v map[string]int) string {
	worst := 0
	for _, n := range v {
		worst = max(worst, n)
	}
	switch {
	case worst >= contraFrom:
		return "contraindicated"
	case r.Verdict == verify.Authentic: // nobody said what it should be
		return "warning"
	case r.Verdict != verify.Trusted:
		return "contraindicated"
	case worst >= warningFrom:
		return "warning"
	case worst == 0:
		return "none" // no member has a claim
	}
	return "affirming"
}
