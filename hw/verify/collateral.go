package verify

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Document is one of the documents that say how a platform stands: Intel's
// Provisioning Certification Service (PCS) version 4 gives them.
type Document int

// The documents of an appraisal.
const (
	TCBInfo    Document = iota // of one kind of platform (FMSPC), JSON
	QEIdentity                 // of the TD quoting enclave, JSON
	PCKCRL                     // of the CA that issued the platform's certificate, DER
	RootCRL                    // DER; it has no issuer chain of its own
)

// A CollateralSource gives documents: of is the FMSPC (12 hex digits) for
// TCBInfo, "platform" or "processor" for PCKCRL. The chain is PEM, signer
// first. What it gives is not trusted: it is signed.
type CollateralSource interface {
	Get(ctx context.Context, doc Document, of string) (body, chain []byte, err error)
}

// maxDocument bounds a document, and a chain.
const maxDocument = 4 << 20

// CollateralDir is a folder of documents, each beside its issuer chain:
// tcb-FMSPC.json, qe-identity.json, pck-crl-platform.der and root-crl.der;
// chains as FILE.chain, PEM or as the service's headers have it
// (percent-encoded).
type CollateralDir string

// fileName is a document's name in a folder.
func fileName(doc Document, of string) string {
	switch doc {
	case TCBInfo:
		return "tcb-" + of + ".json"
	case QEIdentity:
		return "qe-identity.json"
	case PCKCRL:
		return "pck-crl-" + of + ".der"
	}
	return "root-crl.der"
}

// Get reads a document.
func (dir CollateralDir) Get(_ context.Context, doc Document, of string) (body, chain []byte, err error) {
	name := fileName(doc, of)
	if body, err = dir.read(name); err != nil || doc == RootCRL {
		return body, nil, err
	}
	chain, err = dir.read(name + ".chain")
	if err == nil && !strings.HasPrefix(string(chain), "-----BEGIN CERTIFICATE") {
		chain, err = unescapeChain(strings.TrimSpace(string(chain)))
	}
	return body, chain, err
}

func (dir CollateralDir) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(dir), name))
	if err != nil {
		return nil, &CollateralFileError{err}
	}
	defer f.Close()
	return bounded(name, f)
}

// CollateralFileError says that a folder has not the document that is needed.
type CollateralFileError struct{ Err error }

// Error names the file.
func (e *CollateralFileError) Error() string { return fmt.Sprintf("collateral: %v", e.Err) }

// Unwrap is the cause.
func (e *CollateralFileError) Unwrap() error { return e.Err }

func bounded(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("collateral: %s: %w", name, err)
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("collateral: %s has more than %d bytes", name, maxDocument)
	}
	return b, nil
}

func unescapeChain(text string) ([]byte, error) {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return nil, fmt.Errorf("collateral: issuer chain: %w", err)
	}
	return []byte(plain), nil
}

// PCS is Intel's service, or another that speaks its API (PCCS).
type PCS struct {
	API          string // default: https://api.trustedservices.intel.com
	Certificates string // where the root's CRL is; default: https://certificates.trustedservices.intel.com
	Client       *http.Client
}

// NetworkError says that a service could not be asked.
type NetworkError struct {
	URL string
	Err error
}

// Error says which and why.
func (e *NetworkError) Error() string { return fmt.Sprintf("collateral from %s: %v", e.URL, e.Err) }

// Unwrap is the cause.
func (e *NetworkError) Unwrap() error { return e.Err }

// pcsTimeout is how long one document may take.
const pcsTimeout = 30 * time.Second

// Get asks the service. Its errors are *NetworkError.
func (p PCS) Get(ctx context.Context, doc Document, of string) (body, chain []byte, err error) {
	api, certificates, client := p.API, p.Certificates, p.Client
	if api == "" {
		api = "https://api.trustedservices.intel.com"
	}
	if certificates == "" {
		certificates = "https://certificates.trustedservices.intel.com"
	}
	if client == nil {
		client = http.DefaultClient
	}
	var from, header string
	switch doc {
	case TCBInfo:
		from, header = api+"/tdx/certification/v4/tcb?fmspc="+url.QueryEscape(of), "TCB-Info-Issuer-Chain"
	case QEIdentity:
		from, header = api+"/tdx/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain"
	case PCKCRL:
		from, header = api+"/sgx/certification/v4/pckcrl?ca="+url.QueryEscape(of)+"&encoding=der", "SGX-PCK-CRL-Issuer-Chain"
	default:
		from = certificates + "/IntelSGXRootCA.der"
	}
	ctx, cancel := context.WithTimeout(ctx, pcsTimeout)
	defer cancel()
	body, escaped, err := fetch(ctx, client, from, header)
	if err == nil && header != "" {
		chain, err = unescapeChain(escaped)
	}
	if err != nil {
		return nil, nil, &NetworkError{from, err}
	}
	return body, chain, nil
}

func fetch(ctx context.Context, client *http.Client, from, header string) (body []byte, chain string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("the service answered %s", answer.Status)
	}
	if body, err = bounded(from, answer.Body); err != nil {
		return nil, "", err
	}
	if header != "" && answer.Header.Get(header) == "" {
		return nil, "", fmt.Errorf("the answer has no header %s", header)
	}
	return body, answer.Header.Get(header), nil
}

// documents are all that an appraisal needs, as they came.
type documents struct {
	body  [RootCRL + 1][]byte
	chain [RootCRL + 1][]byte
}

// gather gets the documents for the platform of a quote.
func gather(ctx context.Context, source CollateralSource, q *Quote) (*documents, error) {
	platform, err := q.platform()
	if err != nil {
		return nil, err
	}
	var d documents
	for doc, of := range []string{TCBInfo: platform.fmspc, QEIdentity: "", PCKCRL: platform.ca, RootCRL: ""} {
		if d.body[doc], d.chain[doc], err = source.Get(ctx, Document(doc), of); err != nil {
			return nil, err
		}
	}
	return &d, nil
}

// first is the first certificate of a chain.
func first(chain []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(chain)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("its issuer chain is not PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its issuer chain: %w", err)
	}
	return c, nil
}

// signer reads an issuer chain's first certificate, which a trusted root
// itself must have issued.
func signer(chain []byte, roots []*x509.Certificate, at time.Time) (*x509.Certificate, error) {
	c, err := first(chain)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	// No intermediates: a platform's own certificate would vouch for it else.
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("its signer is not trusted: %w", err)
	}
	return c, nil
}

// rawSignature reads a signature in hex: r and s, 32 bytes each, big-endian.
func rawSignature(text string) (r, s []byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 64 {
		return nil, nil, errors.New("its signature is not 64 bytes in hex")
	}
	return b[:32], b[32:], nil
}
