package verify

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/cima-project/cima/rpc"
)

// migratable is bit 29 of TDATTRIBUTES (Intel TDX Module ABI, TD_ATTRIBUTES).
const migratable = 0x20 // of byte 3

// underDebug: the host can read and write the memory of a TD under debug.
func (q *Quote) underDebug() bool { return q.Attributes[0] != 0 }

// migrates: a migration TD that the host chose has the keys to the TD's memory.
// Which one, MRSERVICETD says, in quotes of TDX 1.5.
func (q *Quote) migrates() bool {
	return q.Attributes[3]&migratable != 0 || q.ServiceTD != nil && *q.ServiceTD != (rpc.Digest{})
}

// wouldAllow are the rules under which the step debug takes the TD.
func (q *Quote) wouldAllow() TDPolicy {
	p := TDPolicy{AllowDebug: q.underDebug()}
	switch {
	case !q.migrates():
	case q.ServiceTD == nil || *q.ServiceTD == (rpc.Digest{}):
		p.AllowMigratable = true
	default:
		p.ServiceTDs = []rpc.Digest{*q.ServiceTD}
	}
	return p
}

// debug: nobody else can read or write the TD's memory.
func (a *appraisal) debug() Step {
	var rules TDPolicy
	if a.opts.Policy != nil {
		rules = a.opts.Policy.TD
	}
	q := a.quote
	compared := []Comparison{{"TDATTRIBUTES, bits 0–7", "00", hex.EncodeToString(q.Attributes[:1])}}
	var open []string
	refused := false
	if q.underDebug() {
		open = append(open, "the TD is under debug: its host can read and write its memory")
		refused = !rules.AllowDebug
	}
	if q.migrates() {
		compared = append(compared, Comparison{"MRSERVICETD", oneOf(rules.ServiceTDs), q.serviceWords()})
		if q.ServiceTD == nil || *q.ServiceTD == (rpc.Digest{}) || !slices.Contains(rules.ServiceTDs, *q.ServiceTD) {
			open = append(open, "the TD can be migrated: a migration TD of its host's choice can read its memory")
			refused = refused || !rules.AllowMigratable
		}
	}
	switch words := strings.Join(open, "; "); {
	case refused:
		return fail(words, compared...)
	case len(open) > 0:
		return warn(words+"; the policy allows it", compared...)
	case q.migrates():
		return pass("the TD is not under debug; the policy knows its migration TD", compared...)
	}
	return pass("the TD is not under debug, and can't be migrated", compared...)
}

func (q *Quote) serviceWords() string {
	if q.ServiceTD == nil {
		return "not in a quote of TDX 1.0"
	}
	return q.ServiceTD.String()
}
