package rpc

import (
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-384 digest or a register's value; on the wire 96 lower-case
// hex digits.
type Digest [48]byte

// String is the digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads exactly 96 lower-case hex digits.
func (d *Digest) UnmarshalText(text []byte) error {
	var v Digest
	if len(text) != hex.EncodedLen(len(v)) {
		return fmt.Errorf("a SHA-384 digest has 96 hex digits, not %d", len(text))
	}
	if _, err := hex.Decode(v[:], text); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	if v.String() != string(text) {
		return fmt.Errorf("a digest is written in lower-case hex")
	}
	*d = v
	return nil
}
