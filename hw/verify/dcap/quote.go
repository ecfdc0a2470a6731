package dcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"crypto/x509"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	tdx "github.com/google/go-tdx-guest/verify"

	"github.com/cima-project/cima/hw"
)

// Quote is a TDX quote of version 4 or 5 (Intel TDX DCAP Quoting Library API,
// appendix A). It was parsed; only Verify checks its signatures. Its byte
// arrays are as the quote holds them, little-endian where they are numbers.
type Quote struct {
	Version    int                 // 4 or 5
	Registers  hw.Registers        // MRTD and RTMR0–3
	ReportData hw.ReportData       // REPORTDATA
	Attributes [8]byte             // TDATTRIBUTES; bits 0–7: the TD is under debug
	ServiceTD  *hw.Digest          // MRSERVICETD: over the service TDs that are bound, zero where none is; nil in bodies of TDX 1.0
	TCBSVN     [16]byte            // TEE_TCB_SVN: security version numbers, the first of the TDX module
	Chain      []*x509.Certificate // PCK, platform CA, root

	proto            any               // *pb.QuoteV4 or *pb.QuoteV5
	enclave          *pb.EnclaveReport // the quoting enclave's
	moduleSigner     []byte            // MRSIGNERSEAM
	moduleAttributes []byte            // SEAMATTRIBUTES
}

// QuoteLength returns how many bytes the quote at the head of raw has by its
// own header. The bytes behind it are padding of a buffer, or worse. It fails
// where raw is shorter than that, or the version is neither 4 nor 5.
func QuoteLength(raw []byte) (int, error) {
	const header = 48
	size := func(at int) (int, error) {
		if len(raw) < at+4 {
			return 0, fmt.Errorf("quote is cut off after %d bytes", len(raw))
		}
		n := binary.LittleEndian.Uint32(raw[at:])
		if uint64(n) > uint64(len(raw)-at-4) {
			return 0, fmt.Errorf("quote announces %d bytes at offset %d and has %d", n, at, len(raw)-at-4)
		}
		return at + 4 + int(n), nil
	}
	if len(raw) < header {
		return 0, fmt.Errorf("quote is cut off after %d bytes", len(raw))
	}
	switch version := binary.LittleEndian.Uint16(raw); version {
	case 4:
		return size(header + 584)
	case 5:
		signed, err := size(header + 2) // body type, then the body with its size
		if err != nil {
			return 0, err
		}
		return size(signed)
	default:
		return 0, fmt.Errorf("quote has version %d; 4 and 5 are understood", version)
	}
}

// CutQuote reads the quote at the head of a buffer, and returns how many bytes
// stand behind it.
func CutQuote(buffer []byte) (q *Quote, behind int, err error) {
	n, err := QuoteLength(buffer)
	if err != nil {
		return nil, 0, err
	}
	if q, err = ParseQuote(buffer[:n]); err != nil {
		return nil, 0, fmt.Errorf("quote: %w", err)
	}
	return q, len(buffer) - n, nil
}

// ParseQuote reads a quote, and refuses every form of it but one: raw is
// exactly as long as the quote says, the chain has three certificates, and
// their PEM is as an encoder writes it. So no bit of raw is free.
func ParseQuote(raw []byte) (q *Quote, err error) {
	defer recovered(&err)
	n, err := QuoteLength(raw)
	if err != nil {
		return nil, err
	}
	if n != len(raw) {
		return nil, fmt.Errorf("%d bytes stand behind the quote", len(raw)-n)
	}
	proto, err := abi.QuoteToProto(raw)
	if err != nil {
		return nil, err
	}
	// Verify checks the fields, so nothing may stand outside of them.
	again, err := abi.QuoteToAbiBytes(proto)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, raw) {
		return nil, errors.New("quote holds bytes that are in no field of it")
	}
	q = &Quote{proto: proto}
	if err := q.read(); err != nil {
		return nil, err
	}
	return q, nil
}

// tdBody is what the bodies of both quote versions have.
type tdBody interface {
	GetMrTd() []byte
	GetRtmrs() [][]byte
	GetReportData() []byte
	GetTdAttributes() []byte
	GetTeeTcbSvn() []byte
	GetMrSignerSeam() []byte
	GetSeamAttributes() []byte
}

func (q *Quote) read() error {
	var body tdBody
	var auth *pb.Ecdsa256BitQuoteV4AuthData
	switch p := q.proto.(type) {
	case *pb.QuoteV4:
		q.Version, body, auth = 4, p.GetTdQuoteBody(), p.GetSignedData()
	case *pb.QuoteV5:
		v5 := p.GetTdQuoteBodyDescriptor().GetTdQuoteBodyV5()
		q.Version, body, auth = 5, v5, p.GetSignedData()
		if service := v5.GetMrServiceTd(); len(service) > 0 {
			q.ServiceTD = (*hw.Digest)(service)
		}
	default:
		return fmt.Errorf("quote of an unknown kind %T", p)
	}
	q.Registers.MRTD = hw.Digest(body.GetMrTd())
	for i, r := range body.GetRtmrs() {
		q.Registers.RTMR[i] = hw.Digest(r)
	}
	q.ReportData = hw.ReportData(body.GetReportData())
	q.Attributes = [8]byte(body.GetTdAttributes())
	q.TCBSVN = [16]byte(body.GetTeeTcbSvn())
	q.moduleSigner, q.moduleAttributes = body.GetMrSignerSeam(), body.GetSeamAttributes()
	vouching := auth.GetCertificationData().GetQeReportCertificationData()
	q.enclave = vouching.GetQeReport()
	var err error
	q.Chain, err = parseChain(vouching.GetPckCertificateChainData().GetPckCertChain())
	return err
}

// Verify checks the signatures from the TD's report up to one of roots, as of
// the time at. TCB status, the quoting enclave's identity and revocation need
// collateral and are no part of it. The error is an *UntrustedRootError where
// the chain ends in another root.
func (q *Quote) Verify(roots []*x509.Certificate, at time.Time) (err error) {
	defer recovered(&err)
	root := q.Root()
	pool := x509.NewCertPool()
	known := false
	for _, r := range roots {
		pool.AddCert(r)
		known = known || sameAuthority(r, root)
	}
	if !known {
		return &UntrustedRootError{root}
	}
	// With TrustedRoots given, the library prints nothing. Without, it warns on stdout.
	return tdx.TdxQuote(q.proto, &tdx.Options{TrustedRoots: pool, Now: &tdx.TimeSet{PckCertChain: at}})
}

// Root is the certificate that the quote's chain ends in.
func (q *Quote) Root() *x509.Certificate { return q.Chain[chainLength-1] }

// migratable is bit 29 of TDATTRIBUTES (Intel TDX Module ABI, TD_ATTRIBUTES).
const migratable = 0x20 // of byte 3

// UnderDebug reports whether the host can read and write the TD's memory.
func (q *Quote) UnderDebug() bool { return q.Attributes[0] != 0 }

// Migrates reports whether a migration TD, which the host chose, has the keys
// to the TD's memory. ServiceTD says which one, in quotes of TDX 1.5.
func (q *Quote) Migrates() bool {
	return q.Attributes[3]&migratable != 0 || q.ServiceTD != nil && *q.ServiceTD != (hw.Digest{})
}

// recovered turns a panic of the quote library into an error: its packages abi
// and verify index fields whose length they did not check.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("quote can't be parsed: %v", p)
	}
}
