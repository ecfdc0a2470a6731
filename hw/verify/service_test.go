package verify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "github.com/google/go-tdx-guest/proto/tdx"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
)

// service signs collateral for a simulated TD, as Intel does for real ones.
type service struct {
	t       testing.TB
	rootKey *ecdsa.PrivateKey
	root    *x509.Certificate
	quote   *dcap.Quote
	ca      *x509.Certificate // replaces the platform CA; its key is the TD's own
	caKey   *ecdsa.PrivateKey

	enclaveSVN int

	tcb, qe      map[string]any
	revokePCK    bool
	revokeSigner bool
	signerName   string
	from, until  time.Time
	spoil        dcap.Document // the document whose signature is wrong; -1: none
	wrongRoot    bool
}

// newService reads the root's key from the TD's directory.
func newService(t testing.TB) (*service, *world) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.pem")
	w := newWorld(t, sim.Config{RootFile: path})
	w.launch(idOne, "one", "/bin/one")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keyBlock, rest := pem.Decode(text)
	rootBlock, _ := pem.Decode(rest)
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(rootBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := w.td.Quote(context.Background(), hw.ReportData{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, rootKey: key.(*ecdsa.PrivateKey), root: root, quote: q, signerName: "Intel SGX TCB Signing",
		from: time.Now().Add(-time.Hour), until: time.Now().Add(time.Hour), spoil: -1}
	p, err := pcs.PckCertificateExtensions(q.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	zero := strings.Repeat("00", 48)
	s.tcb = map[string]any{"id": "TDX", "version": 3, "fmspc": strings.ToUpper(p.FMSPC), "pceId": p.PCEID,
		"tdxModule": map[string]any{"mrsigner": zero, "attributes": zero[:16], "attributesMask": strings.Repeat("FF", 8)},
		"tcbLevels": []any{level(components(p.TCB.CPUSvnComponents), components(q.TCBSVN[:]), int(p.TCB.PCESvn), "UpToDate", "2026-01-01T00:00:00Z")}}
	e := enclaveOf(t, raw)
	s.enclaveSVN = int(e.GetIsvSvn())
	s.qe = map[string]any{"id": "TD_QE", "version": 2, "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": hex.EncodeToString(e.GetAttributes()), "attributesMask": strings.Repeat("FF", 16),
		"mrsigner": hex.EncodeToString(e.GetMrSigner()), "isvprodid": e.GetIsvProdId(),
		"tcbLevels": []any{map[string]any{"tcb": map[string]any{"isvsvn": e.GetIsvSvn()}, "tcbDate": "2020-01-01T00:00:00Z", "tcbStatus": "UpToDate"}}}
	return s, w
}

// enclaveOf is the report of a quote's quoting enclave.
func enclaveOf(t testing.TB, raw []byte) *pb.EnclaveReport {
	t.Helper()
	proto, err := abi.QuoteToProto(raw)
	if err != nil {
		t.Fatal(err)
	}
	return proto.(*pb.QuoteV4).GetSignedData().GetCertificationData().GetQeReportCertificationData().GetQeReport()
}

func components(svn []byte) []any {
	var list []any
	for _, v := range svn {
		list = append(list, map[string]any{"svn": v})
	}
	return list
}

func level(sgx, tdx []any, pce int, status, date string) map[string]any {
	return map[string]any{"tcb": map[string]any{"sgxtcbcomponents": sgx, "tdxtcbcomponents": tdx, "pcesvn": pce},
		"tcbDate": date, "tcbStatus": status, "advisoryIDs": []string{"INTEL-SA-00001"}}
}

// Get returns a document in its current form.
func (s *service) Get(_ context.Context, doc dcap.Document, _ string) (body, chain []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	issuer, issuerKey := s.root, s.rootKey
	if s.wrongRoot {
		copied := *s.root
		copied.PublicKey, copied.PublicKeyAlgorithm = key.Public(), x509.ECDSA
		issuer, issuerKey = &copied, key
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: s.signerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range [][]byte{der, s.root.Raw} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	switch doc {
	case dcap.TCBInfo:
		return s.signed("tcbInfo", s.tcb, key, s.spoil == doc), chain, nil
	case dcap.QEIdentity:
		return s.signed("enclaveIdentity", s.qe, key, s.spoil == doc), chain, nil
	case dcap.RootCRL:
		var serials []*big.Int
		if s.revokeSigner {
			serials = []*big.Int{big.NewInt(77)}
		}
		return s.crl(s.root, s.rootKey, serials), nil, nil
	}
	var serials []*big.Int
	if s.revokePCK {
		serials = []*big.Int{s.quote.Chain[0].SerialNumber}
	}
	return s.crl(s.ca, s.caKey, serials), nil, nil
}

func (s *service) signed(member string, form map[string]any, key *ecdsa.PrivateKey, spoil bool) []byte {
	form["issueDate"], form["nextUpdate"] = s.from, s.until
	inner, err := json.Marshal(form)
	if err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(inner)
	if spoil {
		sum[0] ^= 1
	}
	r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		s.t.Fatal(err)
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	v.FillBytes(raw[32:])
	return fmt.Appendf(nil, `{%q:%s,"signature":"%x"}`, member, inner, raw)
}

func (s *service) crl(issuer *x509.Certificate, key *ecdsa.PrivateKey, serials []*big.Int) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: s.from, NextUpdate: s.until}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: s.from})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return der
}

// readWith reads the service's documents for its quote, under a platform CA
// whose key the test has.
func (s *service) appraise(t *testing.T, rules string) *Result {
	t.Helper()
	q := *s.quote
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := *q.Chain[1]
	der, err := x509.CreateCertificate(rand.Reader, &template, s.root, key.Public(), s.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	q.Chain = []*x509.Certificate{q.Chain[0], ca, q.Chain[2]}
	s.ca, s.caKey = ca, key
	r := begin(claimSteps, Options{})
	c, unavailable, err := dcap.NewHeld().Collateral(t.Context(), s, &q, time.Now())
	if unavailable != nil {
		t.Fatal(unavailable)
	}
	if err != nil {
		c = nil
		r.add(StepCollateral, fail(err.Error()))
	}
	r.add(StepEnclave, enclave(&q, c, nil))
	step, level := tcb(&q, c, Options{Policy: parsePolicy(t, "cima_policy = 2\n[tcb]\n"+rules)})
	r.add(StepTCB, step)
	r.add(StepRevocation, revocation(c, level))
	r.TCB = level
	return r
}

func (s *service) setStatus(status string) {
	s.tcb["tcbLevels"].([]any)[0].(map[string]any)["tcbStatus"] = status
}

func (s *service) tcbOf() map[string]any {
	return s.tcb["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)
}

func (s *service) raise(which string, at int) {
	s.tcbOf()[which].([]any)[at] = map[string]any{"svn": 255}
}

func (s *service) module() map[string]any { return s.tcb["tdxModule"].(map[string]any) }

func (s *service) setQE(status string, more int) {
	l := s.qe["tcbLevels"].([]any)[0].(map[string]any)
	l["tcbStatus"] = status
	l["tcb"] = map[string]any{"isvsvn": s.enclaveSVN + more}
}
