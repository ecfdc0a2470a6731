package userdata

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/cima-project/cima/logs/canonical"
)

// JWK is a public key (RFC 7517) for which a key broker encrypts, as Trustee's reads it.
type JWK struct {
	Type      string `json:"kty"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
}

type teePubkey struct {
	Profile string `json:"profile"`
	Key     JWK    `json:"tee-pubkey"`
}

// Algorithms of the keys.
const (
	algECDH = "ECDH-ES+A256KW"
	algRSA  = "RSA-OAEP-256"
)

// Bounds of an RSA modulus, in bits.
const (
	minRSA = 2048
	maxRSA = 8192
)

// secretMembers are those of private keys (RFC 7518, section 6).
var secretMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// ParseJWK reads a public key of a kind that Trustee encrypts for.
func ParseJWK(text []byte) (k JWK, err error) {
	var members map[string]any
	if err := canonical.Decode(text, &members); err != nil {
		return JWK{}, fmt.Errorf("a JWK must be a JSON object: %w", err)
	}
	for _, name := range secretMembers {
		if _, secret := members[name]; secret {
			return JWK{}, fmt.Errorf("the JWK has the member %q of a private key: only the public key may be bound, because evidence is not secret", name)
		}
	}
	if err := canonical.Unmarshal(text, &k); err != nil {
		return JWK{}, fmt.Errorf("JWK: %w", err)
	}
	return k, k.check()
}

// check: it is one of the keys that are known, and holds what such a key holds.
func (k JWK) check() error {
	switch {
	case k.Type == "EC" && k.Algorithm == algECDH && k.N == "" && k.E == "":
		return k.checkPoint()
	case k.Type == "RSA" && k.Algorithm == algRSA && k.Curve == "" && k.X == "" && k.Y == "":
		return k.checkRSA()
	}
	return fmt.Errorf("JWK: it must be kty EC with crv, x, y and alg %s, or kty RSA with n, e and alg %s", algECDH, algRSA)
}

func (k JWK) checkPoint() error {
	curve, size := ecdh.P256(), 32
	switch k.Curve {
	case "P-256":
	case "P-521":
		curve, size = ecdh.P521(), 66
	default:
		return fmt.Errorf("JWK: crv must be P-256 or P-521, not %q", k.Curve)
	}
	x, errX := unpadded(k.X)
	y, errY := unpadded(k.Y)
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return fmt.Errorf("JWK: x and y must each be %d bytes in base64url", size)
	}
	if _, err := curve.NewPublicKey(slices.Concat([]byte{4}, x, y)); err != nil {
		return errors.New("JWK: x and y must be a point of the curve")
	}
	return nil
}

func (k JWK) checkRSA() error {
	n, errN := unpadded(k.N)
	e, errE := unpadded(k.E)
	switch {
	case errN != nil || errE != nil:
		return errors.New("JWK: n and e must be in base64url")
	case len(n)*8 < minRSA || len(n)*8 > maxRSA || n[0] < 0x80 || n[len(n)-1]&1 == 0:
		return fmt.Errorf("JWK: n must be an odd number of %d to %d bits", minRSA, maxRSA)
	case len(e) == 0 || len(e) > 4 || e[0] == 0 || e[len(e)-1]&1 == 0 || len(e) == 1 && e[0] < 3:
		return errors.New("JWK: e must be an odd number from 3 on, of at most 32 bits")
	}
	return nil
}

// unpadded decodes what has one spelling.
func unpadded(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && base64.RawURLEncoding.EncodeToString(b) != text { // Go skips line ends
		err = errors.New("a line end")
	}
	return b, err
}

// TEEPubkey binds a key for which a key broker encrypts.
func TEEPubkey(k JWK) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	return canonical.Marshal(teePubkey{profileTEEPubkey, k})
}

// ReadTEEPubkey returns the key that is bound.
func ReadTEEPubkey(data []byte) (JWK, error) {
	var t teePubkey
	if err := read(data, profileTEEPubkey, &t); err != nil {
		return JWK{}, err
	}
	return t.Key, t.Key.check()
}
