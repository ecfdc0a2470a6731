package node

import "github.com/cima-project/cima/logs/canonical"

// profile names this use of evidence: in no other one these user data are taken, nor
// others here.
const profile = "https://github.com/cima-project/cima/spire-node/v1"

// payload is what the agent sends before the server's challenge. SPIRE wants some.
const payload = `{"profile":"` + profile + `"}`

// maxEvidence is what a message of SPIRE's gRPC holds, less its envelope.
const maxEvidence = 4<<20 - 64<<10

// nonceSize is how many random bytes the server challenges with.
const nonceSize = 32

// userData binds evidence to node attestation in one trust domain: the server of another
// domain can't pass it on.
func userData(trustDomain string) ([]byte, error) {
	return canonical.Marshal(struct {
		Profile     string `json:"profile"`
		TrustDomain string `json:"trust_domain"`
	}{profile, trustDomain})
}
