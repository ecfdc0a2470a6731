package canonical

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-384 digest, or the value of a measurement register that is
// extended with such digests: 48 bytes, big-endian, as SHA-384 prints it. In JSON it
// is 96 lower-case hex digits.
type Digest [48]byte

// Extend returns the register after digest was extended into it:
// SHA-384(register ‖ digest) (Intel TDX Module ABI, TDG.MR.RTMR.EXTEND).
func (register Digest) Extend(digest Digest) Digest {
	var both [96]byte
	copy(both[:48], register[:])
	copy(both[48:], digest[:])
	return sha512.Sum384(both[:])
}

// String is the digest in lower-case hex.
func (register Digest) String() string { return hex.EncodeToString(register[:]) }

// MarshalText writes lower-case hex.
func (register Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, register[:]), nil }

// UnmarshalText reads exactly 96 lower-case hex digits.
func (register *Digest) UnmarshalText(text []byte) error {
	var v Digest
	if len(text) != hex.EncodedLen(len(v)) {
		return fmt.Errorf("a SHA-384 digest must have 96 hex digits, not %d", len(text))
	}
	if _, err := hex.Decode(v[:], text); err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	if v.String() != string(text) {
		return fmt.Errorf("a digest must be in lower-case hex")
	}
	*register = v
	return nil
}
