// Package collateraltest answers: which service gives a test its collateral?
//
// For tests alone: a service with Intel's interface, and with a root of its own.
package collateraltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json/v2"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

// FMSPC is the kind of platform that the service knows.
const FMSPC = "b0c06f000000"

// Service is a PCCS. Its members may be set between requests.
type Service struct {
	front

	Root   *x509.Certificate
	Issued time.Time // of all documents
	Until  time.Time
	Kind   string // the FMSPC in TCB info; default FMSPC

	t              testing.TB
	rootKey, caKey crypto.Signer
	signerKey      *ecdsa.PrivateKey
	signer, ca     *x509.Certificate
	tcb, qe        map[string]any // more members of TCB info and QE identity
}

// New makes a service whose documents are good from an hour before now to 30 days after.
func New(t testing.TB, now time.Time) *Service {
	t.Helper()
	s := &Service{t: t, Issued: now.Add(-time.Hour), Until: now.AddDate(0, 0, 30)}
	s.rootKey, s.Root = s.certificate("Intel SGX Root CA", nil, nil, now)
	s.signerKey, s.signer = s.certificate("Intel SGX TCB Signing", s.Root, s.rootKey, now)
	s.caKey, s.ca = s.certificate("Intel SGX PCK Platform CA", s.Root, s.rootKey, now)
	return s
}

// Of makes a service that knows the platform of a simulated TD, and rates it UpToDate.
// Its documents are good from an hour before now to 30 days after.
func Of(t testing.TB, machine *sim.Machine, now time.Time) *Service {
	t.Helper()
	raw, err := machine.Quote(t.Context(), hw.ReportData{})
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{t: t, Issued: now.Add(-time.Hour), Until: now.AddDate(0, 0, 30)}
	root, platform, ok := machine.Authorities()
	if !ok {
		t.Fatal("the machine must be a TD")
	}
	s.Root, s.rootKey, s.ca, s.caKey = root.Certificate, root.Key, platform.Certificate, platform.Key
	s.signerKey, s.signer = s.certificate("Intel SGX TCB Signing", s.Root, s.rootKey, now)
	s.rate(raw)
	return s
}

func (s *Service) certificate(name string, issuer *x509.Certificate, issuerKey crypto.Signer, now time.Time) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	isCA := !strings.Contains(name, "Signing")
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature}
	if issuer == nil {
		issuer, issuerKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), issuerKey)
	if err != nil {
		s.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		s.t.Fatal(err)
	}
	return key, c
}

// ServeHTTP answers as a PCCS does: revocation lists in hex, chains in headers.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.answered(w, r) {
		return
	}
	kind := s.Kind
	if kind == "" {
		kind = FMSPC
	}
	switch r.URL.Path {
	case "/tdx/certification/v4/tcb":
		w.Header()["Tcb-Info-Issuer-Chain"] = []string{s.chain(s.signer)}
		w.Write(s.signed("tcbInfo", s.tcb, map[string]any{"id": "TDX", "version": 3, "fmspc": strings.ToUpper(kind), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 17}))
	case "/tdx/certification/v4/qe/identity":
		w.Header()["Sgx-Enclave-Identity-Issuer-Chain"] = []string{s.chain(s.signer)}
		w.Write(s.signed("enclaveIdentity", s.qe, map[string]any{"id": "TD_QE", "version": 2, "tcbEvaluationDataNumber": 17}))
	case "/sgx/certification/v4/pckcrl":
		w.Header()["Sgx-Pck-Crl-Issuer-Chain"] = []string{s.chain(s.ca)}
		w.Write(s.list(s.ca, s.caKey))
	case "/sgx/certification/v4/rootcacrl":
		w.Write(s.list(s.Root, s.rootKey))
	default:
		http.NotFound(w, r)
	}
}

func (s *Service) chain(signer *x509.Certificate) string {
	var text []byte
	for _, c := range []*x509.Certificate{signer, s.Root} {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return url.QueryEscape(string(text))
}

func (s *Service) signed(member string, more, form map[string]any) []byte {
	maps.Copy(form, more)
	form["issueDate"], form["nextUpdate"] = s.Issued.UTC().Format(time.RFC3339), s.Until.UTC().Format(time.RFC3339)
	inner, err := json.Marshal(form, json.Deterministic(true))
	if err != nil {
		s.t.Error(err)
	}
	sum := sha256.Sum256(inner)
	r, v, err := ecdsa.Sign(rand.Reader, s.signerKey, sum[:])
	if err != nil {
		s.t.Error(err)
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	v.FillBytes(raw[32:])
	return fmt.Appendf(nil, `{%q:%s,"signature":"%x"}`, member, inner, raw)
}

func (s *Service) list(issuer *x509.Certificate, key crypto.Signer) []byte {
	der, err := x509.CreateRevocationList(rand.Reader,
		&x509.RevocationList{Number: big.NewInt(1), ThisUpdate: s.Issued, NextUpdate: s.Until}, issuer, key)
	if err != nil {
		s.t.Error(err)
	}
	return []byte(hex.EncodeToString(der))
}
