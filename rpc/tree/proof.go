package tree

import (
	"encoding/json/jsontext"
	json "encoding/json/v2"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// maxPlace is of the place in a tree, in bytes: 12 digests in hex are 1.2 KB.
const maxPlace = 2048

// Proof is evidence that many share, and the place of one of them in its tree. As JSON it is
// what a service sends to who asked.
type Proof struct {
	Evidence jsontext.Value `json:"evidence"`
	Tree     *rpc.Shared    `json:"tree"`
}

// ReadProof reads a proof as it was sent. It appraises nothing.
func ReadProof(text []byte) (*Proof, error) {
	if most := rpc.MaxEvidence + maxPlace; len(text) > most {
		return nil, fmt.Errorf("a proof must have at most %d bytes", most)
	}
	p := new(Proof)
	if err := canonical.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("a proof over a tree: %w", err)
	}
	return p, nil
}

// Bound is as the function: what Evidence must have.
func (p *Proof) Bound(b Binding, nonce []byte) (claimsNonce, userData []byte, err error) {
	return Bound(p.Tree, b, nonce)
}

// WritePlace writes the place in a tree as it travels beside evidence.
func WritePlace(place *rpc.Shared) ([]byte, error) { return json.Marshal(place) }

// ReadPlace reads it.
func ReadPlace(text []byte) (*rpc.Shared, error) {
	if len(text) > maxPlace {
		return nil, fmt.Errorf("a place in the tree must have at most %d bytes", maxPlace)
	}
	place := new(rpc.Shared)
	if err := canonical.Unmarshal(text, place); err != nil {
		return nil, fmt.Errorf("the place in the tree: %w", err)
	}
	return place, nil
}
