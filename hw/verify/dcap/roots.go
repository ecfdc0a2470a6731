package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Intel's SGX Root CA, as Intel publishes it
// (https://certificates.trustedservices.intel.com/IntelSGXRootCA.der).
//
//go:embed intel_root.pem
var intelRootPEM []byte

// IntelRoot is Intel's SGX Root CA, which signs for all TDX hardware.
func IntelRoot() *x509.Certificate {
	block, _ := pem.Decode(intelRootPEM)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err) // it is in the binary, and a test reads it
	}
	return c
}

// ParseRoots reads trust roots from PEM: at least one CERTIFICATE block, and
// nothing else.
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

// sameAuthority reports whether two roots have the same key and name: Intel
// issues its root anew at times.
func sameAuthority(a, b *x509.Certificate) bool {
	key, ok := a.PublicKey.(*ecdsa.PublicKey)
	return ok && key.Equal(b.PublicKey) && bytes.Equal(a.RawSubject, b.RawSubject)
}

// TrustedRoot is the one of roots that the quote's chain ends in, nil if none is. Where
// several are of its authority, it is the first that is in date at the time at (zero: now),
// and the first of all only where none is in date.
func (q *Quote) TrustedRoot(roots []*x509.Certificate, at time.Time) (trusted *x509.Certificate) {
	at = orNow(at)
	for _, r := range roots {
		switch {
		case !sameAuthority(r, q.Root()):
		case !at.Before(r.NotBefore) && !at.After(r.NotAfter):
			return r
		case trusted == nil:
			trusted = r
		}
	}
	return trusted
}

// UntrustedRootError says that a quote's chain ends in a root that is none of
// the trusted ones.
type UntrustedRootError struct {
	Root *x509.Certificate
}

// Error names the root, and its SHA-256.
func (e *UntrustedRootError) Error() string {
	return fmt.Sprintf("the quote's chain ends in a root that is not trusted: %s, SHA-256 %s",
		e.Root.Subject, Fingerprint(e.Root))
}

// Fingerprint is the SHA-256 of a certificate in DER, in hex.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// RootName tells roots apart for people. It has the organization next to the
// common name: the root of a simulated TD has the same common name as Intel's,
// which verifiers ask for.
func RootName(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if len(c.Subject.Organization) > 0 {
		name += " of " + c.Subject.Organization[0]
	}
	return name
}
