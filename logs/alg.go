package logs

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
)

// AlgID is a TPM algorithm identifier (TCG Algorithm Registry).
type AlgID uint16

// Hash algorithms of event logs.
const (
	AlgSHA1   AlgID = 0x0004
	AlgSHA256 AlgID = 0x000B
	AlgSHA384 AlgID = 0x000C
	AlgSHA512 AlgID = 0x000D
	AlgSM3    AlgID = 0x0012
)

// Size is the length of a digest in bytes, 0 where the algorithm is unknown.
func (a AlgID) Size() int {
	switch a {
	case AlgSHA1:
		return 20
	case AlgSHA256, AlgSM3:
		return 32
	case AlgSHA384:
		return 48
	case AlgSHA512:
		return 64
	}
	return 0
}

// String is the algorithm's name as Linux and the CEL write it.
func (a AlgID) String() string {
	switch a {
	case AlgSHA1:
		return "sha1"
	case AlgSHA256:
		return "sha256"
	case AlgSHA384:
		return "sha384"
	case AlgSHA512:
		return "sha512"
	case AlgSM3:
		return "sm3_256"
	}
	return fmt.Sprintf("0x%04x", uint16(a))
}

func algOfSize(n int) (AlgID, bool) {
	switch n {
	case 20:
		return AlgSHA1, true
	case 32:
		return AlgSHA256, true
	case 48:
		return AlgSHA384, true
	case 64:
		return AlgSHA512, true
	}
	return 0, false
}

// sum appends the digest of data to b.
func (a AlgID) sum(b, data []byte) []byte {
	switch a {
	case AlgSHA1:
		d := sha1.Sum(data)
		return append(b, d[:]...)
	case AlgSHA256:
		d := sha256.Sum256(data)
		return append(b, d[:]...)
	case AlgSHA384:
		d := sha512.Sum384(data)
		return append(b, d[:]...)
	case AlgSHA512:
		d := sha512.Sum512(data)
		return append(b, d[:]...)
	}
	return b
}
