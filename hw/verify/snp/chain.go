package snp

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// AMD's roots (ARK), and the intermediates that sign VCEKs (ASK) and VLEKs (ASVK), of each
// line, as AMD's service gives them: https://kdsintf.amd.com/{vcek,vlek}/v1/LINE/cert_chain.
// They were taken from google/go-sev-guest v0.15.0 (verify/trust), which has them from there;
// those of Milan and Turin stand in virtee/sev too, and are the same bytes.
//
//go:embed amd/*.pem
var published embed.FS

// Bits of an RSA key that counts in a chain. AMD's have 4096.
const minRSA, maxRSA = 2048, 4096

// Chain is whom a report's key is vouched for by.
type Chain struct {
	Line         Line
	VLEK         bool              // the key is of a provider, not of a chip
	Root         *x509.Certificate // the trusted one
	intermediate *x509.Certificate // ASK or ASVK
}

// AMDRoots are the roots of all lines.
func AMDRoots() (roots []*x509.Certificate) {
	for _, l := range Lines() {
		roots = append(roots, embedded(l, "ark"))
	}
	return roots
}

func embedded(l Line, what string) *x509.Certificate {
	text, err := published.ReadFile(path.Join("amd", strings.ToLower(string(l))+"-"+what+".pem"))
	if err != nil {
		panic(err) // it is in the binary, and a test reads it
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err) // the same
	}
	return c
}

// untrustedRootError says that a report's chain ends in a root that is none of the trusted
// ones. root is nil where the evidence names it alone.
type untrustedRootError struct {
	root *x509.Certificate
	name string
}

// Error names the root and, where it is known, its SHA-256.
func (e *untrustedRootError) Error() string {
	text := "the SNP report's chain ends in a root that is not trusted: " + e.name
	if e.root != nil {
		sum := sha256.Sum256(e.root.Raw)
		text += ", SHA-256 " + hex.EncodeToString(sum[:])
	}
	return text
}

// RootOf is the root that came with a report and that nobody trusts; nil for other errors.
func RootOf(err error) *x509.Certificate {
	if untrusted, is := errors.AsType[*untrustedRootError](err); is {
		return untrusted.root
	}
	return nil
}

// chain checks the certificates from the leaf up to one of roots.
func (a *Attestation) chain(roots []*x509.Certificate, at time.Time) (Chain, error) {
	intermediate := a.intermediate
	if intermediate == nil { // AMD's are known, and counts only under a root that is trusted
		what := "ask"
		if a.Leaf.VLEK {
			what = "asvk"
		}
		intermediate = embedded(a.Leaf.line, what)
	}
	c := Chain{Line: a.Leaf.line, VLEK: a.Leaf.VLEK, intermediate: intermediate}
	if name := a.intermediateName(); intermediate.Subject.CommonName != name {
		return c, wrongName(intermediate, name)
	}
	if c.Root = sameAuthority(roots, intermediate, a.root); c.Root == nil {
		return c, &untrustedRootError{a.root, intermediate.Issuer.String()}
	}
	if a.root != nil { // its own copy: no bit of it may be free
		if err := wellSigned(a.root, a.root, a.rootName(), at); err != nil {
			return c, err
		}
	}
	if err := wellSigned(c.Root, c.Root, a.rootName(), at); err != nil {
		return c, err
	}
	if err := wellSigned(intermediate, c.Root, a.intermediateName(), at); err != nil {
		return c, err
	}
	return c, wellSigned(a.Leaf.cert, intermediate, "SEV-"+keyName(a.Leaf.VLEK), at)
}

func (a *Attestation) rootName() string { return "ARK-" + string(a.Leaf.line) }

func (a *Attestation) intermediateName() string {
	if a.Leaf.VLEK {
		return "SEV-VLEK-" + string(a.Leaf.line)
	}
	return "SEV-" + string(a.Leaf.line)
}

// OutOfDate reports whether a certificate that came with the report is not good at the time.
func (a *Attestation) OutOfDate(at time.Time) bool {
	if a.Leaf == nil {
		return false
	}
	for _, c := range []*x509.Certificate{a.Leaf.cert, a.intermediate, a.root} {
		if c != nil && (at.Before(c.NotBefore) || at.After(c.NotAfter)) {
			return true
		}
	}
	return false
}

// sameAuthority is the one of roots that issued the intermediate, and that is of the same
// authority as the root that came with it, where one came.
func sameAuthority(roots []*x509.Certificate, intermediate, came *x509.Certificate) *x509.Certificate {
	for _, r := range roots {
		key, ok := r.PublicKey.(*rsa.PublicKey)
		if !ok || !bytes.Equal(r.RawSubject, intermediate.RawIssuer) {
			continue
		}
		if came == nil && intermediate.CheckSignatureFrom(r) == nil ||
			came != nil && key.Equal(came.PublicKey) && bytes.Equal(r.RawSubject, came.RawSubject) {
			return r
		}
	}
	return nil
}

func wrongName(c *x509.Certificate, want string) error {
	return fmt.Errorf("a certificate of the SNP report's chain is of %q, and must be of %q", c.Subject.CommonName, want)
}

// wellSigned checks what each certificate must be, and that issuer signed it.
func wellSigned(c, issuer *x509.Certificate, name string, at time.Time) error {
	key, ok := issuer.PublicKey.(*rsa.PublicKey)
	switch {
	case c.Subject.CommonName != name:
		return wrongName(c, name)
	case c.SignatureAlgorithm != x509.SHA384WithRSAPSS || !ok || key.N.BitLen() < minRSA || key.N.BitLen() > maxRSA:
		return fmt.Errorf("%s must be signed by RSA-PSS with SHA-384, by a key of %d to %d bits", name, minRSA, maxRSA)
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject):
		return fmt.Errorf("%s is not issued by %s", name, issuer.Subject.CommonName)
	case !issuer.IsCA || issuer.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%s is issued by %s, which is no authority", name, issuer.Subject.CommonName)
	case len(c.UnhandledCriticalExtensions) > 0:
		return errors.New(name + " has a critical extension that is unknown")
	case at.Before(c.NotBefore) || at.After(c.NotAfter):
		return fmt.Errorf("%s is good from %s to %s", name, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
	}
	if err := c.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("%s is not signed by %s: %w", name, issuer.Subject.CommonName, err)
	}
	return nil
}
