//go:build linux

package hw

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"syscall"

	"github.com/cima-project/cima/hw/imds"
	"github.com/cima-project/cima/hw/vtpm"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// Where the paravisor of an Azure VM keeps what it made at boot.
const (
	azureIndex = 0x01400001 // NV: the HCL report
	azureKey   = 0x81000003 // the key that quotes
)

// Endorser is who else must be asked on Azure: the host, by cima-imds.
type Endorser interface {
	// Quote makes a TDX quote of a TDREPORT of 1024 bytes.
	Quote(ctx context.Context, report []byte) ([]byte, error)
	// Certificates are those of the machine's SNP reports: DER, leaf first.
	Certificates(ctx context.Context) ([][]byte, error)
}

// azure is a confidential VM of Azure. Its hardware is the paravisor's: the guest can't ask it
// for anything. What the guest has is a vTPM in the paravisor, whose key the paravisor put
// into a hardware report at boot. Its methods may be called from many goroutines at once. It
// satisfies TEE.
type azure struct {
	tdx      *TDX // for the kernel's files
	tpm      *vtpm.TPM
	number   int // of the PCR that holds the log
	report   hcl
	endorser Endorser

	asking   chan struct{} // held while the host is asked
	endorsed *Signed       // what the host answered; under asking. It holds for the boot
}

var _ TEE = (*azure)(nil)

// newAzure reads the HCL report.
func newAzure(ctx context.Context, t *TDX, tpm *vtpm.TPM, number int, endorser Endorser) (*azure, error) {
	raw, err := tpm.NV(ctx, azureIndex, maxHCL)
	if refused, is := errors.AsType[*vtpm.ResponseError](err); is && refused.Absent() {
		return nil, &Error{Op: OpReport, Path: t.tpmDevice(), Errno: syscall.ENOENT, Err: fmt.Errorf("%w: the vTPM has no HCL report: %w", ErrUnsupported, err),
			Advice: "this VM of Azure's is no confidential VM: choose a size and an image that are"}
	}
	if err != nil {
		return nil, NewError(OpReport, t.tpmDevice(), err)
	}
	report, err := readHCL(raw)
	if err != nil {
		return nil, NewError(OpReport, t.tpmDevice(), err)
	}
	return &azure{tdx: t, tpm: tpm, number: number, report: report, endorser: endorser, asking: make(chan struct{}, 1)}, nil
}

// Parts are those of a VM behind a paravisor.
func (a *azure) Parts() Parts {
	return Parts{TEE: a.report.tee, Anchor: logs.AnchorPCR, BootLog: BootLogTPM}
}

// Quote asks the vTPM for a quote over SHA-384 of data: a TPM takes 50 bytes. Beside it stands what
// the hardware signed at boot. The host is asked once.
func (a *azure) Quote(ctx context.Context, data ReportData) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := a.endorsement(ctx)
	if err != nil {
		return nil, err
	}
	over := sha512.Sum384(data[:])
	q, err := a.tpm.Quote(ctx, azureKey, over[:])
	if err != nil {
		return nil, NewError(OpQuote, a.tdx.tpmDevice(), err)
	}
	s.TPMQuote, s.TPMSignature, s.PCRs = q.Attest, q.Signature, q.PCRs
	answer := JoinVTPM(s)
	if _, err := a.Open(answer); err != nil {
		return nil, NewError(OpQuote, a.tdx.tpmDevice(), err)
	}
	return answer, nil
}

// endorsement is what the hardware signed, without the vTPM's part.
func (a *azure) endorsement(ctx context.Context) (Signed, error) {
	select {
	case a.asking <- struct{}{}:
	case <-ctx.Done():
		return Signed{}, NewError(OpQuote, imds.Socket, fmt.Errorf("gave up waiting for a turn: %w", ctx.Err()))
	}
	defer func() { <-a.asking }()
	if a.endorsed != nil {
		return *a.endorsed, nil
	}
	modulus, err := a.tpm.RSA(ctx, azureKey)
	if err != nil {
		return Signed{}, NewError(OpQuote, a.tdx.tpmDevice(), err)
	}
	if !bytes.Equal(modulus, a.report.modulus) {
		return Signed{}, NewError(OpQuote, a.tdx.tpmDevice(), fmt.Errorf("%w: the key of the vTPM is not the one that the HCL report names", ErrMalformed))
	}
	s := Signed{Quote: a.report.report, RuntimeData: a.report.runtime}
	if a.report.tee == TEEAzureTDX {
		s.Quote, err = a.endorser.Quote(ctx, a.report.report)
		if err == nil {
			s.Quote, _, err = boundQuote(s.Quote, runtimeData(s.RuntimeData))
		}
	} else {
		s.Certificates, err = a.endorser.Certificates(ctx)
	}
	if err != nil {
		failed := NewError(OpQuote, imds.Socket, err)
		failed.Advice = "see that cima-imds.socket is active, and what its service says: journalctl -u cima-imds"
		return Signed{}, failed
	}
	a.endorsed = &s
	return s, nil
}

// Open takes an answer of Quote apart.
func (a *azure) Open(answer []byte) (Signed, error) {
	return OpenVTPM(answer, a.report.tee, a.number)
}

// Registers returns what the hardware measured of the launch, as the paravisor left it, and the
// PCR that holds the log. RTMRs are zero.
func (a *azure) Registers(ctx context.Context) (Registers, error) {
	value, err := a.pcr(ctx)
	if err != nil {
		return Registers{}, err
	}
	registers := snpRegisters(a.report.report)
	if a.report.tee == TEEAzureTDX {
		registers = reportRegisters(a.report.report)
	}
	registers.PCR = value
	return registers, nil
}

func (a *azure) pcr(ctx context.Context) (pcr.Value, error) {
	value, err := a.tpm.PCR(ctx, a.number)
	if err != nil {
		return pcr.Value{}, NewError(OpRegisters, a.tdx.tpmDevice(), err)
	}
	return value, nil
}

// Extend extends the PCR that holds the log, in each of its banks.
func (a *azure) Extend(ctx context.Context, digest Digest) error {
	if err := a.tpm.Extend(ctx, a.number, digest); err != nil {
		return NewError(OpExtend, a.tdx.tpmDevice(), err)
	}
	return nil
}

func (a *azure) bootLogPath() string {
	return a.tdx.sys("kernel/security/tpm0/binary_bios_measurements")
}

// BootLog is the TPM's event log.
func (a *azure) BootLog() ([]byte, error) {
	const limit = 4 << 20
	path := a.bootLogPath()
	log, err := a.tdx.files.Read(path, limit)
	if err != nil {
		return nil, NewError(OpBootLog, path, err)
	}
	if len(log) == 0 {
		return nil, NewError(OpBootLog, path, fmt.Errorf("%w: an empty log", ErrMalformed))
	}
	return log, nil
}

// BootID is as TDX.BootID.
func (a *azure) BootID() (string, error) { return a.tdx.BootID() }
