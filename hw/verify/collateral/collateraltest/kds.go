package collateraltest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// KDS is a service as AMD's, that knows the lists of Milan, and the chips that it is told of. Its
// members may be set between requests.
type KDS struct {
	front

	Root    *x509.Certificate
	Chips   map[string][]byte // certificates, DER, by path and query
	Chain   [][]byte          // DER of the intermediate and the root, which cert_chain gives
	Issued  time.Time         // of all lists
	Until   time.Time
	Revoked []*big.Int // serial numbers

	t   testing.TB
	key crypto.Signer
}

// NewKDS makes a service with a root of its own for this line, whose lists are good from an
// hour before now to 30 days after.
func NewKDS(t testing.TB, line string, now time.Time) *KDS {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ARK-" + line}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &KDS{Root: c, Issued: now.Add(-time.Hour), Until: now.AddDate(0, 0, 30), t: t, key: key}
}

// KDSOf makes a service whose root a simulated machine keeps in a file (sim.Config.RootFile).
func KDSOf(t testing.TB, rootFile string, now time.Time) *KDS {
	t.Helper()
	text, err := os.ReadFile(rootFile)
	if err != nil {
		t.Fatal(err)
	}
	private, rest := pem.Decode(text)
	public, _ := pem.Decode(rest)
	if private == nil || public == nil {
		t.Fatalf("%s: no key and certificate", rootFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(private.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(public.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &KDS{Root: root, Issued: now.Add(-time.Hour), Until: now.AddDate(0, 0, 30), t: t, key: key.(crypto.Signer)}
}

// ServeHTTP answers as AMD's service does.
func (s *KDS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.answered(w, r) {
		return
	}
	if der, known := s.Chips[r.URL.RequestURI()]; known {
		w.Write(der)
		return
	}
	if r.URL.Path == "/vcek/v1/Milan/cert_chain" && s.Chain != nil {
		for _, der := range s.Chain {
			pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/vcek/v1/Milan/") && !strings.HasPrefix(r.URL.Path, "/vlek/v1/Milan/") || !strings.HasSuffix(r.URL.Path, "/Milan/crl") {
		http.NotFound(w, r)
		return
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: s.Issued, NextUpdate: s.Until, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, n := range s.Revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: s.Issued})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, s.Root, s.key)
	if err != nil {
		s.t.Error(err)
	}
	w.Write(der)
}
