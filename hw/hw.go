// Package hw answers: what does the hardware say?
//
// It holds the values that a TEE gives (registers, quotes) and the code that
// asks real hardware for them. It decides nothing about them: package verify
// judges quotes, package logs replays registers.
package hw

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
)

// Digest is a SHA-384 digest, or the value of a measurement register that is
// extended with such digests. Big-endian, as SHA-384 prints it.
type Digest [48]byte

// ReportData is the 64 bytes that a caller binds into a quote
// (REPORTDATA, Intel TDX Module ABI, REPORTMACSTRUCT).
type ReportData [64]byte

// Registers are the measurement registers of a TD (Intel TDX Module ABI,
// TDINFO_STRUCT).
type Registers struct {
	MRTD Digest
	RTMR [4]Digest
}

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

// TEE is what every backend of this room offers; its consumers declare the
// part that they need themselves. It stands here so that both backends are
// held to one list of promises.
//
//   - Quote: a quote over data, exactly as long as its own header says.
//   - Registers: the registers as they are now, never a cache.
//   - Extend: RTMR3 only. An error does not say that nothing happened: read
//     the register.
//   - BootLog: the CCEL as the firmware left it, padding included.
//   - BootID: the id of this boot; registers and runtime log live as long.
type TEE interface {
	Quote(ctx context.Context, data ReportData) ([]byte, error)
	Registers(ctx context.Context) (Registers, error)
	Extend(ctx context.Context, digest Digest) error
	BootLog() ([]byte, error)
	BootID() (string, error)
}
