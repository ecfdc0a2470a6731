// Package hw answers: what does the hardware say?
//
// It holds the values that a TEE gives (registers, quotes) and the code that
// asks real hardware for them. It decides nothing about them: package
// hw/verify judges quotes and replays logs.
package hw

import (
	"context"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/pcr"
)

// Digest is a SHA-384 digest, or the value of a measurement register.
type Digest = canonical.Digest

// ReportData is the 64 bytes that a caller binds into a quote
// (REPORTDATA, Intel TDX Module ABI, REPORTMACSTRUCT; REPORT_DATA, SEV-SNP Firmware ABI).
type ReportData [64]byte

// Registers are the measurement registers of a TD (Intel TDX Module ABI,
// TDINFO_STRUCT); of an SNP guest MEASUREMENT stands for MRTD, and there are no others.
type Registers struct {
	MRTD Digest
	RTMR [4]Digest
	PCR  pcr.Value // the PCR of the runtime log; no bank where RTMR3 holds it
}

// TEE is what each platform offers: those of this package, and the simulated ones of
// hw/sim.
//
//   - Parts: which platform it is.
//   - Quote: what the platform signs over data; Open takes it apart.
//   - Registers: the registers as they are now, never a cache.
//   - Extend: the runtime log's register only. An error does not say that nothing
//     happened: read the register.
//   - BootLog: the log as the firmware left it, padding included; empty where
//     nothing in the TEE logged the boot.
//   - BootID: the id of this boot; registers and runtime log live as long.
type TEE interface {
	Parts() Parts
	Quote(ctx context.Context, data ReportData) ([]byte, error)
	Open(quote []byte) (Signed, error)
	Registers(ctx context.Context) (Registers, error)
	Extend(ctx context.Context, digest Digest) error
	BootLog() ([]byte, error)
	BootID() (string, error)
}
