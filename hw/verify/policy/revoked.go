package policy

import (
	"fmt"

	"github.com/cima-project/cima/hw/verify/tables"
)

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
		p.revoked[digest] = why
		t.Done()
	}
	return len(list)
}

// maxRevoked is how many revoked digests are told of.
const maxRevoked = 8

// Revoked holds digests of any kind against [[revoked]]: of firmware, boot events, TDX
// module, agent, images, layers, launches and programs.
func (p *Policy) Revoked(digests func(yield func(what, digest string) bool)) (found []string) {
	if len(p.revoked) == 0 {
		return nil
	}
	for what, digest := range digests {
		if why, ok := p.revoked[digest]; ok && len(found) < maxRevoked {
			found = append(found, fmt.Sprintf("%s %.24s… is revoked: %s", what, digest, why))
		}
	}
	return found
}
