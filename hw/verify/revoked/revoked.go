// Package revoked answers: which digests count for nothing?
//
// It reads [[revoked]] of a policy (cima-policy(5)), and finds its digests.
package revoked

import (
	"fmt"
	"iter"
	"regexp"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
)

// List are digests that count nowhere.
type List map[string]entry

// entry is why a digest counts for nothing, and from when on.
type entry struct {
	why   string
	since time.Time // zero: always
}

var digestForm = regexp.MustCompile(`^([0-9a-f]{96}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

// Read reads [[revoked]], and returns how many digests there are.
func (l List) Read(t *tables.Table) int {
	all := t.All("revoked")
	for _, t := range all {
		digest, why := t.Text("digest"), t.Text("why")
		if !digestForm.MatchString(digest) || strings.Trim(digest, "0") == "" {
			t.Bad("digest", `96 lower-case hex digits, or "sha256:" and 64, or "sha512:" and 128`)
		}
		if why == "" {
			t.Bad("why", "there: people who are refused read it")
		}
		l.add(digest, entry{why, t.Time("since")})
		t.Done()
	}
	return len(all)
}

// add notes a revocation. Of two of one digest the earlier counts.
func (l List) add(digest string, e entry) {
	if known, twice := l[digest]; !twice || e.since.Before(known.since) {
		l[digest] = e
	}
}

// maxTold is how many revoked digests are told of.
const maxTold = 8

// Find holds digests of any kind against the list, at that time.
func (l List) Find(digests iter.Seq2[string, string], at time.Time) (found []string) {
	if len(l) == 0 {
		return nil
	}
	for what, digest := range digests {
		if r, ok := l[digest]; ok && !at.Before(r.since) && len(found) < maxTold {
			found = append(found, fmt.Sprintf("%s %.24s… is revoked: %s", what, digest, r.why))
		}
	}
	return found
}
