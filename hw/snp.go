//go:build linux

package hw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/cima-project/cima/logs"
)

// Layout of an SNP report (SEV-SNP Firmware ABI Specification, ATTESTATION_REPORT), in bytes.
const (
	snpReport      = 0x4A0
	snpData        = 0x050
	snpMeasurement = 0x090
)

// Bounds of the host's certificate table, in bytes: real ones have 5 KiB.
const (
	maxCertificates = 32 << 10
	maxCertificate  = 8 << 10
)

// snp is the SEV-SNP guest that this process runs in, through configfs-tsm. The firmware
// has no register that only grows: the claims alone hold the runtime log. Its methods may
// be called from many goroutines at once. It satisfies TEE.
type snp struct{ tsm *TDX }

var _ TEE = (*snp)(nil)

// newSNP checks nothing.
func newSNP(options TDXOptions) *snp {
	t := NewTDX(options)
	t.provider = providerSNP
	return &snp{tsm: t}
}

// Parts are SNPParts.
func (s *snp) Parts() Parts { return SNPParts() }

// SNPParts are the parts of an SNP guest that asks the firmware itself. What logged its boot is
// the host's.
func SNPParts() Parts {
	return Parts{TEE: TEESNP, Anchor: logs.AnchorReportData, BootLog: BootLogNone}
}

// Quote makes a report over data. The host's certificates stand behind it.
func (s *snp) Quote(ctx context.Context, data ReportData) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !s.tsm.exists(s.tsm.reports()) {
		return nil, s.tsm.noQuote()
	}
	raw, err := s.tsm.quoteTSM(ctx, data)
	if err != nil {
		return nil, err
	}
	if len(raw) < snpReport || ReportData(raw[snpData:][:64]) != data {
		return nil, NewError(OpQuote, s.tsm.reports(), fmt.Errorf("%w: %d bytes that are no SNP report over the data given", ErrMalformed, len(raw)))
	}
	if _, err := OpenSNP(raw); err != nil {
		return nil, NewError(OpQuote, s.tsm.reports(), err)
	}
	return raw, nil
}

// Open takes a report and its certificates apart.
func (s *snp) Open(quote []byte) (Signed, error) { return OpenSNP(quote) }

// Registers returns the launch measurement. There are no other registers.
func (s *snp) Registers(ctx context.Context) (Registers, error) {
	raw, err := s.Quote(ctx, readingData())
	if err != nil {
		return Registers{}, err
	}
	return snpRegisters(raw), nil
}

// Extend fails: no register of an SNP guest can be extended.
func (s *snp) Extend(context.Context, Digest) error {
	return &Error{Op: OpExtend, Errno: syscall.ENOENT, Err: fmt.Errorf("%w: an SNP guest has no register that can be extended", ErrUnsupported), Advice: "set anchor = \"report-data\""}
}

// BootLog is empty: nothing in the TEE logged the boot.
func (s *snp) BootLog() ([]byte, error) { return []byte{}, nil }

// BootID is as TDX.BootID.
func (s *snp) BootID() (string, error) { return s.tsm.BootID() }

// Drain is as TDX.Drain.
func (s *snp) Drain(ctx context.Context) error { return s.tsm.Drain(ctx) }

func snpRegisters(report []byte) Registers {
	return Registers{MRTD: Digest(report[snpMeasurement:][:48])}
}

// OpenSNP takes apart a report, and the table of certificates behind it. It checks no
// signature. Its errors are ErrMalformed.
func OpenSNP(raw []byte) (Signed, error) {
	if len(raw) < snpReport {
		return Signed{}, fmt.Errorf("%w: an SNP report has %d bytes, not %d", ErrMalformed, snpReport, len(raw))
	}
	certificates, err := certificateTable(raw[snpReport:])
	if err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return Signed{Quote: raw[:snpReport:snpReport], Registers: snpRegisters(raw), Certificates: certificates}, nil
}

// The kinds of certificates that a report's chain is made of, as their GUIDs stand in the
// table, in the order of the chain (SEV-SNP GHCB, section 4.1.8.1).
var chainOrder = []string{
	"\x8d\x75\xda\x63\x64\xe6\x64\x45\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd", // VCEK
	"\x74\x20\x80\xa8\x5a\xa2\x3e\x48\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1", // VLEK
	"\x79\xb3\xb7\x4a\xac\xbb\xe4\x4f\xa0\x2f\x05\xae\xf3\x27\xc7\x82", // ASK, ASVK
	"\xa4\x06\xb4\xc0\x03\xa8\x52\x49\x97\x43\x3f\xb6\x01\x4c\xd0\xae", // ARK
}

// certificateTable reads the host's table: entries of a GUID, an offset and a length, then
// what they point to. The host may give none. Entries of other kinds are left out.
func certificateTable(table []byte) (chain [][]byte, err error) {
	found := make([][]byte, len(chainOrder))
	for at := 0; len(table) > 0; at += 24 {
		if len(table)-at < 24 {
			return nil, errors.New("the table of certificates does not end")
		}
		kind := string(table[at:][:16])
		if kind == string(make([]byte, 16)) {
			break
		}
		offset, size := uint64(binary.LittleEndian.Uint32(table[at+16:])), uint64(binary.LittleEndian.Uint32(table[at+20:]))
		if size == 0 || size > maxCertificate || offset+size > uint64(len(table)) {
			return nil, fmt.Errorf("a certificate of %d bytes at byte %d of a table of %d", size, offset, len(table))
		}
		for i, known := range chainOrder {
			if kind != known {
				continue
			}
			if found[i] != nil {
				return nil, errors.New("the table of certificates has two of one kind")
			}
			found[i] = table[offset:][:size:size]
		}
	}
	for _, certificate := range found {
		if certificate != nil {
			chain = append(chain, certificate)
		}
	}
	return chain, nil
}
