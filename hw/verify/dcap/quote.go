package dcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"crypto/x509"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"

	"github.com/cima-project/cima/hw"
)

// Quote is a TDX quote of version 4 or 5 (Intel TDX DCAP Quoting Library API,
// appendix A). It was parsed; only Verify checks its signatures. Its byte
// arrays are as the quote holds them, little-endian where they are numbers.
type Quote struct {
	Version    int                 // 4 or 5
	Registers  hw.Registers        // MRTD and RTMR0–3
	ReportData hw.ReportData       // REPORTDATA
	Attributes [8]byte             // TDATTRIBUTES
	XFAM       [8]byte             // XFAM: the features of the processor that the TD may use
	Module     hw.Digest           // MRSEAM: the TDX module
	ConfigID   hw.Digest           // MRCONFIGID: as whoever made the TD wanted it, and so the next two
	Owner      hw.Digest           // MROWNER
	OwnerConf  hw.Digest           // MROWNERCONFIG
	Extended   *Extended           // of a body of type 4; nil in others
	ServiceTD  *hw.Digest          // MRSERVICETD: over the service TDs that are bound, zero where none is; nil in bodies of TDX 1.0
	TCBSVN     [16]byte            // TEE_TCB_SVN: security version numbers, the first of the TDX module that the TD was started by
	TCBSVN2    *[16]byte           // TEE_TCB_SVN_2: of the module that runs now; nil in bodies of TDX 1.0
	Chain      []*x509.Certificate // PCK, platform CA, root

	proto            any // *pb.QuoteV4 or *pb.QuoteV5; of a body of type 4, with one of type 3 in its place
	of               *platform
	auth             *pb.Ecdsa256BitQuoteV4AuthData
	enclave          *pb.EnclaveReport // the quoting enclave's
	moduleSigner     []byte            // MRSIGNERSEAM
	moduleAttributes []byte            // SEAMATTRIBUTES
	signed           []byte            // header and body
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
		return size(header + bodySize4)
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

// signedLength is how many bytes the attestation key signs: the header, the body, and in
// version 5 its descriptor. QuoteLength has found that they are there.
func signedLength(raw []byte) int {
	if binary.LittleEndian.Uint16(raw) == 4 {
		return descriptorAt + bodySize4
	}
	return bodyAt + int(binary.LittleEndian.Uint32(raw[descriptorAt+2:]))
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
	q = &Quote{signed: bytes.Clone(raw[:signedLength(raw)])}
	if isExtended(raw) {
		if raw, q.Extended, err = shorten(raw); err != nil {
			return nil, err
		}
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
	q.proto = proto
	if err := q.read(); err != nil {
		return nil, err
	}
	return q, nil
}

// intelQE is Intel's vendor id in quotes (939a7233-f79c-4ca9-940a-0db3957f0607).
var intelQE = []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// tdBody is what the bodies of both quote versions have.
type tdBody interface {
	GetMrTd() []byte
	GetRtmrs() [][]byte
	GetReportData() []byte
	GetTdAttributes() []byte
	GetXfam() []byte
	GetMrSeam() []byte
	GetMrConfigId() []byte
	GetMrOwner() []byte
	GetMrOwnerConfig() []byte
	GetTeeTcbSvn() []byte
	GetMrSignerSeam() []byte
	GetSeamAttributes() []byte
}

func (q *Quote) read() error {
	var body tdBody
	var auth *pb.Ecdsa256BitQuoteV4AuthData
	var header *pb.Header
	switch p := q.proto.(type) {
	case *pb.QuoteV4:
		q.Version, header, body, auth = 4, p.GetHeader(), p.GetTdQuoteBody(), p.GetSignedData()
	case *pb.QuoteV5:
		v5 := p.GetTdQuoteBodyDescriptor().GetTdQuoteBodyV5()
		q.Version, header, body, auth = 5, p.GetHeader(), v5, p.GetSignedData()
		if service := v5.GetMrServiceTd(); len(service) > 0 {
			q.ServiceTD = (*hw.Digest)(service)
		}
		if svn := v5.GetTeeTcbSvn2(); len(svn) > 0 {
			q.TCBSVN2 = (*[16]byte)(svn)
		}
	default:
		return fmt.Errorf("quote of an unknown kind %T", p)
	}
	if vendor := header.GetQeVendorId(); !bytes.Equal(vendor, intelQE) {
		return fmt.Errorf("the quote is by a quoting enclave of the vendor %x, not of Intel (%x)", vendor, intelQE)
	}
	q.Registers.MRTD = hw.Digest(body.GetMrTd())
	for i, r := range body.GetRtmrs() {
		q.Registers.RTMR[i] = hw.Digest(r)
	}
	q.ReportData = hw.ReportData(body.GetReportData())
	q.Attributes, q.XFAM = [8]byte(body.GetTdAttributes()), [8]byte(body.GetXfam())
	q.Module, q.ConfigID = hw.Digest(body.GetMrSeam()), hw.Digest(body.GetMrConfigId())
	q.Owner, q.OwnerConf = hw.Digest(body.GetMrOwner()), hw.Digest(body.GetMrOwnerConfig())
	q.TCBSVN = [16]byte(body.GetTeeTcbSvn())
	q.moduleSigner, q.moduleAttributes = body.GetMrSignerSeam(), body.GetSeamAttributes()
	q.auth = auth
	vouching := auth.GetCertificationData().GetQeReportCertificationData()
	q.enclave = vouching.GetQeReport()
	var err error
	chain := vouching.GetPckCertificateChainData()
	if q.Chain, err = parseChain(chain.GetPckCertChain()); err != nil || !isDER(chain.GetPckCertChain()) {
		return err
	}
	// The library reads the chain again, and PEM alone. What stands in the quote was
	// compared with it before.
	text := asPEM(q.Chain)
	more := uint32(len(text) - len(chain.GetPckCertChain()))
	chain.PckCertChain, chain.Size = text, chain.GetSize()+more
	auth.CertificationData.Size += more
	return nil
}

func orNow(at time.Time) time.Time {
	if at.IsZero() {
		return time.Now()
	}
	return at
}

// Root is the certificate that the quote's chain ends in.
func (q *Quote) Root() *x509.Certificate { return q.Chain[chainLength-1] }

// recovered turns a panic of the quote library into an error: its packages abi
// and verify index fields whose length they did not check.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("quote can't be parsed: %v", p)
	}
}

// SVNs are TEE_TCB_SVN and, where the quote has it, TEE_TCB_SVN_2.
func (q *Quote) SVNs() [][16]byte {
	if q.TCBSVN2 == nil {
		return [][16]byte{q.TCBSVN}
	}
	return [][16]byte{q.TCBSVN, *q.TCBSVN2}
}

// ServiceTDs are the service TDs that a quote names, each where it is not zero.
func (q *Quote) ServiceTDs() (all []hw.Digest) {
	if q.ServiceTD != nil {
		all = append(all, *q.ServiceTD)
	}
	if x := q.Extended; x != nil {
		all = append(all, x.InitialServiceTD, x.CurrentServiceTD)
	}
	return slices.DeleteFunc(all, func(d hw.Digest) bool { return d == hw.Digest{} })
}
