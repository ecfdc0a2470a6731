// Package hw answers: what does the hardware say?
//
// It holds the values that a TEE gives (registers, quotes) and the code that
// asks real hardware for them. It decides nothing about them: package
// hw/verify judges quotes and replays logs.
package hw

import (
	"context"

	"github.com/cima-project/cima/logs/canonical"
)

// Digest is a SHA-384 digest, or the value of a measurement register.
type Digest = canonical.Digest

// ReportData is the 64 bytes that a caller binds into a quote
// (REPORTDATA, Intel TDX Module ABI, REPORTMACSTRUCT).
type ReportData [64]byte

// Registers are the measurement registers of a TD (Intel TDX Module ABI,
// TDINFO_STRUCT).
type Registers struct {
	MRTD Digest
	RTMR [4]Digest
}

// TEE is what each backend offers: TDX here, and the simulated TD of hw/sim.
//
//   - Quote: a quote whose REPORTDATA is data, exactly as long as its own header
//     says.
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
