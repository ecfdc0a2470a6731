package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	tdx "github.com/google/go-tdx-guest/verify"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// Intel's SGX Root CA, as Intel publishes it
// (https://certificates.trustedservices.intel.com/IntelSGXRootCA.der).
//
//go:embed intel_root.pem
var intelRootPEM []byte

// chainLength is how many certificates a quote carries: PCK, platform CA, root.
const chainLength = 3

// Quote is a TDX quote of version 4 or 5 (Intel TDX DCAP Quoting Library API,
// appendix A) that was parsed and not verified.
type Quote struct {
	Version    int
	Registers  hw.Registers
	ReportData hw.ReportData
	Attributes [8]byte             // TDATTRIBUTES, little-endian; bits 0–7: the TD is under debug
	ServiceTD  *rpc.Digest         // MRSERVICETD: over the service TDs that are bound, zero where none is; nil in bodies of TDX 1.0
	TCBSVN     [16]byte            // TEE_TCB_SVN
	Chain      []*x509.Certificate // PCK, platform CA, root

	proto            any               // *pb.QuoteV4 or *pb.QuoteV5
	enclave          *pb.EnclaveReport // the quoting enclave's
	moduleSigner     []byte            // MRSIGNERSEAM
	moduleAttributes []byte            // SEAMATTRIBUTES
}

// QuoteLength is how many bytes the quote at the head of raw has by its own
// header: what is behind them is padding of a buffer, or worse.
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

// ParseQuote reads a quote and refuses every form of it but one: exactly as
// long as it says, three certificates, their PEM as an encoder writes it.
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
	// Its fields are what gets verified, so they must be all that is there.
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

// tdBody is what bodies of both quote versions have.
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
			q.ServiceTD = (*rpc.Digest)(service)
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

// parseChain reads the chain's PEM, which may end in one zero byte, as Intel's
// library writes it.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	var again []byte
	text = bytes.TrimSuffix(text, []byte{0})
	for rest := text; len(rest) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || len(chain) == chainLength {
			return nil, fmt.Errorf("quote's certificate chain holds more than %d certificates", chainLength)
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("quote's certificate chain holds a PEM block %q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the quote's chain: %w", len(chain), err)
		}
		chain = append(chain, c)
		again = append(again, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if len(chain) != chainLength {
		return nil, fmt.Errorf("quote's certificate chain has %d certificates, not %d", len(chain), chainLength)
	}
	if !bytes.Equal(again, text) {
		return nil, errors.New("PEM of the quote's certificate chain doesn't re-encode to itself")
	}
	return chain, nil
}

// Verify checks the signatures from the TD's report up to one of roots, as of
// at. TCB status, the quoting enclave's identity and revocation need
// collateral and are no part of it.
func (q *Quote) Verify(roots []*x509.Certificate, at time.Time) (err error) {
	defer recovered(&err)
	root := q.Chain[chainLength-1]
	pool := x509.NewCertPool()
	known := false
	for _, r := range roots {
		pool.AddCert(r)
		known = known || sameAuthority(r, root)
	}
	if !known {
		return &untrustedRootError{root}
	}
	// With TrustedRoots given nothing is printed: without, it warns on stdout.
	return tdx.TdxQuote(q.proto, &tdx.Options{TrustedRoots: pool, Now: &tdx.TimeSet{PckCertChain: at}})
}

// sameAuthority: a root is issued anew at times with the same key and name.
func sameAuthority(a, b *x509.Certificate) bool {
	key, ok := a.PublicKey.(*ecdsa.PublicKey)
	return ok && key.Equal(b.PublicKey) && bytes.Equal(a.RawSubject, b.RawSubject)
}

// untrustedRootError says that a chain ends in a root nobody vouched for.
type untrustedRootError struct{ root *x509.Certificate }

func (e *untrustedRootError) Error() string {
	return fmt.Sprintf("the quote's chain ends in a root that is not trusted: %s, SHA-256 %s",
		e.root.Subject, fingerprint(e.root))
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// IntelRoot is the root that is trusted where no other is given.
func IntelRoot() *x509.Certificate {
	block, _ := pem.Decode(intelRootPEM)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err) // it is in the binary, and a test reads it
	}
	return c
}

// ParseRoots reads trust roots from PEM: CERTIFICATE blocks and nothing else.
func ParseRoots(text []byte) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("trust root: not PEM")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("trust root: PEM block %q is no certificate", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("trust root: %w", err)
		}
		roots = append(roots, c)
	}
	if len(roots) == 0 {
		return nil, errors.New("trust root: no certificate in it")
	}
	return roots, nil
}

// recovered turns a panic of the quote library into an error: abi and verify
// index what they have not measured.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("quote can't be parsed: %v", p)
	}
}
