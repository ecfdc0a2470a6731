// Package tree answers: how do many calls of one service share one quote?
//
// The hardware makes about one quote a second. A service that proves itself to many puts
// what each of them wants bound into the leaves of a tree of its own, and asks the daemon
// once for all: for evidence whose user data holds the tree's root (cima-access(7), ONE
// QUOTE FOR MANY CALLS). Sessions of attested TLS are such leaves (rpc/atls), and so is what a
// service binds for itself; one Prover serves both.
package tree

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/rpc"
)

const (
	// profile is of the user data of evidence over a tree.
	profile = "https://github.com/cima-project/cima/tree/v1"

	// ours begins the profiles that this project gives a meaning.
	ours = "https://github.com/cima-project/"

	sessionProfile = "https://github.com/cima-project/cima/tls/v1"

	nonceSize = 32 // of the claims

	maxProfile, maxData   = 256, 4096
	leastNonce, mostNonce = 8, 64
)

// Binding is what one leaf binds: an object with a profile of its own, in RFC 8785's form.
// It is made by this package alone, so that no peer's bytes get in as another use's.
type Binding struct{ text []byte }

// OfSession binds a session of TLS: its exporter value, for the end that proves itself
// ("server" or "client").
func OfSession(exporter []byte, role string) Binding {
	return Binding{fmt.Appendf(nil, `{"exporter":%q,"profile":%q,"role":%q}`, hex.EncodeToString(exporter), sessionProfile, role)}
}

// Of binds 1 to 4096 bytes for a use of the service's own: a key, a digest. of is the use's
// name, a URI of up to 256 characters, and none of this project's. A service must not let
// who asks choose both: it would give whoever relays evidence over a key of the relay's.
func Of(of string, data []byte) (Binding, error) {
	scheme, _, named := strings.Cut(of, ":")
	plain := func(c rune) bool { return c > ' ' && c <= '~' && c != '"' && c != '\\' }
	switch {
	case !named || scheme == "" || len(of) > maxProfile || strings.ContainsFunc(of, func(c rune) bool { return !plain(c) }):
		return Binding{}, fmt.Errorf("a use of a tree must be named by a URI of at most %d characters, not %.80q", maxProfile, of)
	case strings.HasPrefix(strings.ToLower(of), ours):
		return Binding{}, fmt.Errorf("a use of a tree must be named by a URI of the service's own, not by %q", of)
	case len(data) < 1 || len(data) > maxData:
		return Binding{}, fmt.Errorf("a leaf must bind 1 to %d bytes, not %d; bind a digest of what is longer", maxData, len(data))
	}
	return Binding{fmt.Appendf(nil, `{"data":%q,"profile":%q}`, hex.EncodeToString(data), of)}, nil
}

// leaf is a binding's in the tree, for who sent this nonce.
func (b Binding) leaf(nonce []byte) (leaf [64]byte, err error) {
	switch {
	case len(b.text) == 0:
		return leaf, errors.New("there must be something to bind")
	case len(nonce) < leastNonce || len(nonce) > mostNonce:
		return leaf, fmt.Errorf("a nonce must have %d to %d bytes, not %d", leastNonce, mostNonce, len(nonce))
	}
	h := sha512.New()
	h.Write([]byte("cima-tree-leaf-v1\x00"))
	h.Write(b.text)
	h.Write([]byte{0})
	h.Write(nonce)
	return [64]byte(h.Sum(nil)), nil
}

// ofRoot is what evidence over a tree must have: the user data, in RFC 8785's form, and
// the nonce that follows from it. Nobody chooses them.
func ofRoot(root rpc.Digest, size int) (nonce, userData []byte) {
	userData = fmt.Appendf(nil, `{"profile":%q,"root":%q,"size":%d}`, profile, hex.EncodeToString(root[:]), size)
	sum := sha512.Sum512(append([]byte("cima-tree-nonce-v1\x00"), userData...))
	return sum[:nonceSize], userData
}

// Bound is what evidence must have, exactly, to prove what is bound to who sent this nonce,
// if it stands in this place of its tree: whoever appraises must check both.
func Bound(place *rpc.Shared, b Binding, nonce []byte) (claimsNonce, userData []byte, err error) {
	leaf, err := b.leaf(nonce)
	if err != nil {
		return nil, nil, err
	}
	root, err := place.Root(leaf)
	if err != nil {
		return nil, nil, fmt.Errorf("the place in the tree: %w", err)
	}
	claimsNonce, userData = ofRoot(root, place.Size)
	return claimsNonce, userData, nil
}
