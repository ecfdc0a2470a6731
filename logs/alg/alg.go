// Package alg answers: which hash algorithms do event logs name?
package alg

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
)

// ID is a TPM algorithm identifier (TPM_ALG_ID, TCG Algorithm Registry).
type ID uint16

// Hash algorithms of event logs.
const (
	SHA1   ID = 0x0004
	SHA256 ID = 0x000B
	SHA384 ID = 0x000C
	SHA512 ID = 0x000D
	SM3    ID = 0x0012
)

// Max bounds the algorithms that one log declares, and the digests of one record.
// No TPM knows 16 hash algorithms.
const Max = 16

// Size is the length of a digest in bytes; 0 for an algorithm that is not listed here.
func (a ID) Size() int {
	switch a {
	case SHA1:
		return 20
	case SHA256, SM3:
		return 32
	case SHA384:
		return 48
	case SHA512:
		return 64
	}
	return 0
}

// String is the name that Linux and the TCG's Canonical Event Log use ("sha384"), or the
// number ("0x0777") of an algorithm that is not listed here.
func (a ID) String() string {
	switch a {
	case SHA1:
		return "sha1"
	case SHA256:
		return "sha256"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	case SM3:
		return "sm3_256"
	}
	return fmt.Sprintf("0x%04x", uint16(a))
}

func OfSize(n int) (ID, bool) {
	switch n {
	case 20:
		return SHA1, true
	case 32:
		return SHA256, true
	case 48:
		return SHA384, true
	case 64:
		return SHA512, true
	}
	return 0, false
}

// Sum appends the digest of data to b.
func (a ID) Sum(b, data []byte) []byte {
	switch a {
	case SHA1:
		d := sha1.Sum(data)
		return append(b, d[:]...)
	case SHA256:
		d := sha256.Sum256(data)
		return append(b, d[:]...)
	case SHA384:
		d := sha512.Sum384(data)
		return append(b, d[:]...)
	case SHA512:
		d := sha512.Sum512(data)
		return append(b, d[:]...)
	case SM3:
		d := sm3(data)
		return append(b, d[:]...)
	}
	return b
}
