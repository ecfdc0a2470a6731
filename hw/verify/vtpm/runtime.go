package vtpm

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"math/big"
)

// keyBits and keyExponent are those of the AK: of every paravisor that was seen.
const (
	keyBits     = 2048
	keyExponent = 65537
	exponent    = "AQAB" // the same as a JWK has it
)

// maxRuntime bounds the paravisor's text, in bytes. Real ones have 1.2 KiB.
const maxRuntime = 4 << 10

// Runtime is the paravisor's text: JSON that the hardware's quote is over.
type Runtime struct {
	AK *rsa.PublicKey // HCLAkPub

	text []byte
}

// ReadRuntime reads the text. It has one key of the name HCLAkPub; members that are unknown
// may stand beside it, because paravisors differ, and the hash covers them.
func ReadRuntime(text []byte) (*Runtime, error) {
	if len(text) > maxRuntime {
		return nil, fmt.Errorf("the paravisor's text must have at most %d bytes, not %d", maxRuntime, len(text))
	}
	var form struct {
		Keys []struct {
			ID string   `json:"kid"`
			Of string   `json:"kty"`
			N  string   `json:"n"`
			E  string   `json:"e"`
			Do []string `json:"key_ops"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(text, &form); err != nil {
		return nil, fmt.Errorf("the paravisor's text: %w", err)
	}
	r := &Runtime{text: text}
	for _, k := range form.Keys {
		if k.ID != "HCLAkPub" {
			continue
		}
		if r.AK != nil {
			return nil, errors.New("the paravisor's text must name one key HCLAkPub, not two")
		}
		n, err := base64.RawURLEncoding.Strict().DecodeString(k.N)
		if err != nil || len(n) != keyBits/8 || n[0] < 0x80 || k.Of != "RSA" || k.E != exponent || len(k.Do) != 1 || k.Do[0] != "sign" {
			return nil, fmt.Errorf("the paravisor's HCLAkPub must be an RSA key of %d bits with the exponent %d that signs, and nothing else", keyBits, keyExponent)
		}
		r.AK = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: keyExponent}
	}
	if r.AK == nil {
		return nil, errors.New("the paravisor's text must name a key HCLAkPub")
	}
	return r, nil
}

// BoundBy says why report data of the hardware are not those over the text; nil: they are,
// SHA-256 of the text and 32 zeros.
func (r *Runtime) BoundBy(reportData [64]byte) error {
	var want [64]byte
	sum := sha256.Sum256(r.text)
	copy(want[:], sum[:])
	if want != reportData {
		return errors.New("the hardware's quote is not over the paravisor's text")
	}
	return nil
}
