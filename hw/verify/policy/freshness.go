package policy

import (
	"fmt"
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
)

// freshness are [freshness]: how old things may be.
type freshness struct {
	nonce      time.Duration
	collateral time.Duration
}

func readFreshness(t *tables.Table) freshness {
	return freshness{t.Duration("nonce"), t.Duration("collateral")}
}

// JudgeNonce says whether a nonce that was made at that time is young enough. known is
// false where the policy asks, and nobody said when it was made.
func (p *Policy) JudgeNonce(made, at time.Time) (wrong string, known bool) {
	switch {
	case p == nil || p.fresh.nonce == 0:
		return "", true
	case made.IsZero():
		return "", false
	case at.Before(made):
		return fmt.Sprintf("the nonce was made at %s, after the time that is judged for", made.UTC().Format(time.RFC3339)), true
	case at.Sub(made) > p.fresh.nonce:
		return fmt.Sprintf("the nonce is %s old, and [freshness] allows %s", at.Sub(made).Round(time.Second), p.fresh.nonce), true
	}
	return "", true
}
