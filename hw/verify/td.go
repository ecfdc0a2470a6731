package verify

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
)

// debug: the TD's host can't read or write its memory, and no migration TD can
// but one that the policy knows.
func debug(q *dcap.Quote, opts Options) Step {
	var rules policy.TD
	if opts.Policy != nil {
		rules = opts.Policy.TD
	}
	compared := []Comparison{{"TDATTRIBUTES, bits 0–7", "00", hex.EncodeToString(q.Attributes[:1])}}
	var open []string
	refused := false
	if q.UnderDebug() {
		open = append(open, "the TD is under debug: its host can read and write its memory")
		refused = !rules.AllowDebug
	}
	if q.Migrates() {
		compared = append(compared, Comparison{"MRSERVICETD", policy.OneOf(rules.ServiceTDs), serviceTDWords(q)})
		if q.ServiceTD == nil || *q.ServiceTD == (hw.Digest{}) || !slices.Contains(rules.ServiceTDs, *q.ServiceTD) {
			open = append(open, "the TD can be migrated: a migration TD of its host's choice can read its memory")
			refused = refused || !rules.AllowMigratable
		}
	}
	switch words := strings.Join(open, "; "); {
	case refused:
		return fail(words, compared...)
	case len(open) > 0:
		return warn(words+"; the policy allows it", compared...)
	case q.Migrates():
		return pass("the TD is not under debug; the policy knows its migration TD", compared...)
	}
	return pass("the TD is not under debug, and can't be migrated", compared...)
}

func serviceTDWords(q *dcap.Quote) string {
	if q.ServiceTD == nil {
		return "not in a quote of TDX 1.0"
	}
	return q.ServiceTD.String()
}
