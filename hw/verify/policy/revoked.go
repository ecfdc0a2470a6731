package policy

import (
	"fmt"
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
)

// revocation is why a digest counts for nothing, and from when on.
type revocation struct {
	why   string
	since time.Time // zero: always
}

// revocations reads [[revoked]], digests that count nowhere, and returns how many.
func (p *Policy) revocations(t *tables.Table) int {
	list := t.All("revoked")
	for _, t := range list {
		digest, why := t.Text("digest"), t.Text("why")
		if digest384(digest) != "" && !verityDigest.MatchString(digest) {
			t.Bad("digest", `96 lower-case hex digits, or "sha256:" and 64, or "sha512:" and 128`)
		}
		if why == "" {
			t.Bad("why", "there: people who are refused read it")
		}
		p.revoke(digest, revocation{why, t.Time("since")})
		t.Done()
	}
	return len(list)
}

// revoke notes a revocation. Of two of one digest the earlier counts.
func (p *Policy) revoke(digest string, r revocation) {
	if known, twice := p.revoked[digest]; !twice || r.since.Before(known.since) {
		p.revoked[digest] = r
	}
}

// maxRevoked is how many revoked digests are told of.
const maxRevoked = 8

// Revoked holds digests of any kind against [[revoked]] at that time: of firmware, boot
// events, TDX module, agent, images, layers, launches and programs.
func (p *Policy) Revoked(digests func(yield func(what, digest string) bool), at time.Time) (found []string) {
	if len(p.revoked) == 0 {
		return nil
	}
	for what, digest := range digests {
		if r, ok := p.revoked[digest]; ok && !at.Before(r.since) && len(found) < maxRevoked {
			found = append(found, fmt.Sprintf("%s %.24s… is revoked: %s", what, digest, r.why))
		}
	}
	return found
}
