// Package quote answers: what does a TDX quote say?
//
// It reads quotes of versions 4 and 5 (Intel TDX DCAP Quoting Library API, appendix A) and
// checks no signature: whether a quote is genuine, package hw/verify and cimactl verify say.
package quote

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// Values of the header and of the body.
const (
	ECDSAP256 = 2    // Header.AttestationKeyType, the only one
	TDX       = 0x81 // Header.TEEType
	BodyTDX10 = 2    // Body.Type: TDX 1.0, and all quotes of version 4
	BodyTDX15 = 3    // TDX 1.5: with TEETCBSVN2 and MRServiceTD
	BodyTDXEx = 4    // TDX 1.5 "Ex": with Extension
)

// ErrMalformed is in every error of bytes that are no quote.
var ErrMalformed = errors.New("no TDX quote")

// Quote is a quote. Numbers are read; byte arrays are as the quote holds them.
type Quote struct {
	Header    Header
	Body      Body
	Signature Signature
}

// Header says what made the quote.
type Header struct {
	Version            int // 4 or 5
	AttestationKeyType int // ECDSAP256
	TEEType            uint32
	Reserved           [4]byte
	QEVendor           [16]byte // Intel's quoting enclave: 939a7233f79c4ca9940a0db3957f0607
	UserData           [20]byte // the platform's id, in its first 16 bytes
}

// Body is the TD's report.
type Body struct {
	Type           int // BodyTDX10, …
	TEETCBSVN      [16]byte
	MRSEAM         canonical.Digest // the TDX module
	MRSignerSEAM   canonical.Digest // zero: Intel's
	SEAMAttributes [8]byte
	TDAttributes   [8]byte // bit 0: a debugger may read the TD
	XFAM           [8]byte
	MRTD           canonical.Digest
	MRConfigID     canonical.Digest
	MROwner        canonical.Digest
	MROwnerConfig  canonical.Digest
	RTMR           [4]canonical.Digest
	ReportData     [64]byte // REPORTDATA: what the quote was asked for over

	// In bodies of TDX 1.5; else zero.
	TEETCBSVN2  [16]byte
	MRServiceTD canonical.Digest
	Extension   []byte // what BodyTDXEx has behind that
}

// Signature is what the quote is signed by, from the attestation key up to the certificates.
type Signature struct {
	Signature         [64]byte // ECDSA P-256 over header and body
	AttestationKey    [64]byte
	QEReport          [384]byte // the quoting enclave's, which vouches for the attestation key
	QEReportSignature [64]byte
	QEAuthData        []byte
	Certificates      []*x509.Certificate // PCK, platform CA, root
}

const (
	sizeHeader = 48
	size10     = 584
	size15     = size10 + 64
	sizeEx     = size15 + 237

	certPCKChain = 5 // certification data: a chain in PEM
	certQEReport = 6 // certification data: the quoting enclave's report, and more
)

// Parse reads a quote, which must be all of raw.
func Parse(raw []byte) (*Quote, error) {
	q, r := new(Quote), &reader{rest: raw}
	q.header(r)
	if r.err == nil {
		q.body(r)
	}
	if r.err == nil {
		signed := r.sized(4)
		r.nothingElse()
		q.signature(signed)
		r.fail(signed.err)
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, r.err)
	}
	return q, nil
}

func (q *Quote) header(r *reader) {
	h := &q.Header
	h.Version, h.AttestationKeyType, h.TEEType = int(r.number(2)), int(r.number(2)), uint32(r.number(4))
	r.into(h.Reserved[:], h.QEVendor[:], h.UserData[:])
	switch {
	case r.err != nil:
	case h.Version != 4 && h.Version != 5:
		r.fail(fmt.Errorf("version %d must be 4 or 5", h.Version))
	case h.TEEType != TDX:
		r.fail(fmt.Errorf("TEE type %#x must be TDX's, %#x", h.TEEType, TDX))
	case h.AttestationKeyType != ECDSAP256:
		r.fail(fmt.Errorf("attestation key type %d must be ECDSA P-256's, %d", h.AttestationKeyType, ECDSAP256))
	}
}

func (q *Quote) body(r *reader) {
	b := &q.Body
	b.Type = BodyTDX10
	size := uint64(size10)
	if q.Header.Version == 5 {
		b.Type, size = int(r.number(2)), r.number(4)
		if want := map[int]uint64{BodyTDX10: size10, BodyTDX15: size15, BodyTDXEx: sizeEx}[b.Type]; size != want {
			r.fail(fmt.Errorf("a body of type %d and %d bytes is no TD's report", b.Type, size))
			return
		}
	}
	r.into(b.TEETCBSVN[:], b.MRSEAM[:], b.MRSignerSEAM[:], b.SEAMAttributes[:], b.TDAttributes[:], b.XFAM[:], b.MRTD[:],
		b.MRConfigID[:], b.MROwner[:], b.MROwnerConfig[:], b.RTMR[0][:], b.RTMR[1][:], b.RTMR[2][:], b.RTMR[3][:], b.ReportData[:])
	if b.Type != BodyTDX10 {
		r.into(b.TEETCBSVN2[:], b.MRServiceTD[:])
	}
	if b.Type == BodyTDXEx {
		b.Extension = r.bytes(sizeEx - size15)
	}
}

func (q *Quote) signature(r *reader) {
	s := &q.Signature
	r.into(s.Signature[:], s.AttestationKey[:])
	r.mustBe(certQEReport, "certification data of the quote")
	report := r.sized(4)
	r.nothingElse()
	report.into(s.QEReport[:], s.QEReportSignature[:])
	s.QEAuthData = report.sized(2).rest
	report.mustBe(certPCKChain, "certification data of the quoting enclave")
	chain := report.sized(4)
	report.nothingElse()
	if r.fail(report.err); r.err == nil {
		var err error
		s.Certificates, err = certificates(chain.rest)
		r.fail(err)
	}
}

// A reader takes fields off the front of bytes; after an error all are zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) bytes(n uint64) []byte {
	if uint64(len(r.rest)) < n {
		r.fail(fmt.Errorf("%d bytes are there where %d must be", len(r.rest), n))
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) into(fields ...[]byte) {
	for _, f := range fields {
		copy(f, r.bytes(uint64(len(f))))
	}
}

// number is one of size bytes, little-endian.
func (r *reader) number(size uint64) uint64 {
	var b [8]byte
	copy(b[:], r.bytes(size))
	return binary.LittleEndian.Uint64(b[:])
}

// sized reads as many bytes as a number of size bytes before them says.
func (r *reader) sized(size uint64) *reader {
	n := r.number(size)
	return &reader{rest: r.bytes(n), err: r.err}
}

func (r *reader) mustBe(want uint64, what string) {
	if got := r.number(2); r.err == nil && got != want {
		r.fail(fmt.Errorf("%s must be of type %d, not %d", what, want, got))
	}
}

func (r *reader) nothingElse() {
	if r.err == nil && len(r.rest) > 0 {
		r.fail(fmt.Errorf("%d bytes stand behind it", len(r.rest)))
	}
}
