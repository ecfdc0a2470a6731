package verify

import (
	"encoding/json/jsontext"
	"errors"
	"time"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/firstseen"
	"github.com/cima-project/cima/rpc"
)

// InitPolicy writes a commented policy, in TOML, from the evidence of these results: what
// was seen once, and nothing else. It waives what is not proved where its code is in
// waive. notes are for who called. It refuses evidence that is not authentic, and a quote
// without claims.
func InitPolicy(results []*Result, waive []string) (text []byte, notes []string, err error) {
	var all []firstseen.Seen
	for _, r := range results {
		if r.Claims == nil || r.Registers == nil && r.Guest == nil || r.Verdict == NotAuthentic || r.Verdict == Malformed {
			return nil, nil, errors.New("no policy can be made from evidence that is not authentic: " + r.Reason)
		}
		if c := r.Claims.Container; c != nil && c.LaunchDigest == (rpc.Digest{}) {
			return nil, nil, errors.New("no policy can be made of this container: " + loggedEarlier)
		}
		all = append(all, r.firstSeen())
	}
	if len(all) == 0 {
		return nil, nil, errors.New("a policy must be made from evidence")
	}
	return firstseen.Policy(all, waive)
}

// firstSeen is what the evidence of a result shows.
func (r *Result) firstSeen() firstseen.Seen {
	seen := r.seen
	seen.Claims = r.Claims
	if r.TCB != nil {
		seen.Status = r.TCB.Status
		seen.Date, _ = time.Parse(time.RFC3339, r.TCB.Date)
	}
	for _, g := range r.gaps {
		if c, _ := codes.Of(g.code); c.Stands {
			seen.Gaps = append(seen.Gaps, g.code)
		}
	}
	for _, e := range r.Events {
		if measured, ok := e.Measured.(jsontext.Value); ok && e.Judged {
			seen.Events = append(seen.Events, firstseen.Event{Operation: e.Operation, Container: e.Container, Measured: measured})
		}
	}
	return seen
}
