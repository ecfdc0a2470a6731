package verifytest

import (
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc/userdata"
)

// jwk is a public key as a key broker's client makes it.
const jwk = `{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}`

// Three is what one policy says of the container that it was made of, of another one, and
// of the first one's evidence given a second time. Both containers bind the same key.
type Three struct {
	Right, Wrong, Replayed *verify.Result

	TD     *TD
	Key    userdata.JWK
	Nonce  []byte
	Policy *policy.Policy

	Evidence []byte // of the right container, over Nonce
}

// AppraiseThree boots a TD and makes the three appraisals.
func AppraiseThree(t testing.TB) *Three {
	t.Helper()
	key, err := userdata.ParseJWK([]byte(jwk))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := userdata.TEEPubkey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := &Three{TD: Boot(t, sim.Config{}), Key: key, Nonce: []byte("nonce of a test!")}
	one, two := a.TD.Launch("1", "registry/one:1", "a"), a.TD.Launch("2", "registry/one:1", "b")
	a.Evidence = a.TD.Evidence(one, a.Nonce, bound)
	_, a.Policy = a.TD.Policy(a.TD.Appraise(a.Evidence, a.Nonce, nil))
	a.Right = a.TD.Appraise(a.Evidence, a.Nonce, a.Policy)
	a.Wrong = a.TD.Appraise(a.TD.Evidence(two, a.Nonce, bound), a.Nonce, a.Policy)
	a.Replayed = a.TD.Appraise(a.Evidence, []byte("nonce of another"), a.Policy)
	return a
}
