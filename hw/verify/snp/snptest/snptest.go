// Package snptest answers: which SNP report does a test appraise?
//
// It makes chains and reports as AMD's processors have them, under a root of its own.
package snptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// From and Until are when the certificates are good.
var (
	From  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	Until = time.Date(2033, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Chip is a processor whose firmware signs reports.
type Chip struct {
	Root, Intermediate, Leaf *x509.Certificate
	HardwareID               [64]byte

	line      string
	vlek      bool
	tcb       [8]byte // of its key, in the report's order
	key       *ecdsa.PrivateKey
	authority *rsa.PrivateKey // of the intermediate
	root      *rsa.PrivateKey
}

// keys are made once for all tests: they say nothing.
var keys = sync.OnceValue(func() (k [2]*rsa.PrivateKey) {
	for i := range k {
		var err error
		if k[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return k
})

// New makes a chip of the line "Milan", "Genoa" or "Turin". change may change the leaf's certificate before it is signed.
func New(t testing.TB, line string, vlek bool, change ...func(*x509.Certificate)) *Chip {
	t.Helper()
	c := &Chip{line: line, vlek: vlek, tcb: [8]byte{4, 0, 0, 0, 0, 0, 24, 219}}
	if line == "Turin" {
		c.tcb = [8]byte{1, 2, 3, 4, 0, 0, 0, 200}
	}
	for i := range c.HardwareID {
		if line != "Turin" || i < 8 {
			c.HardwareID[i] = byte(i + 1)
		}
	}
	c.root, c.authority = keys()[0], keys()[1]
	var err error
	if c.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	middle, leaf := "SEV-"+line, "SEV-VCEK"
	if vlek {
		middle, leaf = "SEV-VLEK-"+line, "SEV-VLEK"
	}
	c.Root = sign(t, authority("ARK-"+line), nil, c.root, &c.root.PublicKey)
	c.Intermediate = sign(t, authority(middle), c.Root, c.root, &c.authority.PublicKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(0), Subject: name(leaf), NotBefore: From, NotAfter: Until, ExtraExtensions: c.extensions(t)}
	for _, f := range change {
		f(template)
	}
	c.Leaf = sign(t, template, c.Intermediate, c.authority, &c.key.PublicKey)
	return c
}

// Again is the chip with another certificate of the same key, which change may change before it is signed.
func (c *Chip) Again(t testing.TB, change func(*x509.Certificate)) *Chip {
	t.Helper()
	again := *c
	template := &x509.Certificate{SerialNumber: big.NewInt(0), Subject: c.Leaf.Subject, NotBefore: From, NotAfter: Until, ExtraExtensions: c.extensions(t)}
	change(template)
	again.Leaf = sign(t, template, c.Intermediate, c.authority, &c.key.PublicKey)
	return &again
}

func name(common string) pkix.Name {
	return pkix.Name{CommonName: common, Organization: []string{"CIMA test, NOT HARDWARE"}}
}

func authority(common string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(65537), Subject: name(common), NotBefore: From, NotAfter: Until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

// sign makes a certificate; without issuer it signs itself.
func sign(t testing.TB, template, issuer *x509.Certificate, by *rsa.PrivateKey, of crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SignatureAlgorithm = x509.SHA384WithRSAPSS
	if issuer == nil {
		issuer = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, of, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Extension is one of AMD's: its arc below 1.3.6.1.4.1.3704.1, and its bytes.
func Extension(value []byte, arc ...int) pkix.Extension {
	return pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...), Value: value}
}

func (c *Chip) extensions(t testing.TB) (all []pkix.Extension) {
	der := func(v any, params string) []byte {
		b, err := asn1.MarshalWithParams(v, params)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	arcs := []int{1, 2, 4, 5, 6, 7, 3, 8}
	if c.line == "Turin" {
		arcs = []int{9, 1, 2, 3, 5, 6, 7, 8}
	}
	all = append(all, Extension(der(0, ""), 1), Extension(der(c.line, "ia5"), 2))
	for i, arc := range arcs {
		all = append(all, Extension(der(int(c.tcb[i]), ""), 3, arc))
	}
	switch {
	case c.vlek:
		all = append(all, Extension(der("CN=cc-test.example", "ia5"), 5))
	case c.line == "Turin":
		all = append(all, Extension(c.HardwareID[:8], 4))
	default:
		all = append(all, Extension(c.HardwareID[:], 4))
	}
	return all
}

// Certificates are those that a host gives: leaf, intermediate and root.
func (c *Chip) Certificates() [][]byte {
	return [][]byte{c.Leaf.Raw, c.Intermediate.Raw, c.Root.Raw}
}

// Report is a report of version 3 over the data. change may change it before it is signed.
func (c *Chip) Report(t testing.TB, data [64]byte, change ...func(raw []byte)) []byte {
	t.Helper()
	raw := make([]byte, 0x4A0)
	le := binary.LittleEndian
	le.PutUint32(raw, 3)
	le.PutUint64(raw[0x008:], 0x30000) // POLICY: bit 17, which must be set, and SMT
	le.PutUint32(raw[0x034:], 1)
	le.PutUint64(raw[0x040:], 0x25) // PLATFORM_INFO: SMT, ECC, aliases checked
	copy(raw[0x050:], data[:])
	for i := range 48 {
		raw[0x090+i] = 0xA0 + byte(i)
	}
	for i := range 32 {
		raw[0x140+i], raw[0x160+i] = byte(i), 0xFF
	}
	for _, at := range []int{0x038, 0x180, 0x1E0, 0x1F0} {
		copy(raw[at:], c.tcb[:])
	}
	raw[0x188], raw[0x189] = 0x19, map[string]byte{"Milan": 1, "Genoa": 0x11, "Turin": 2}[c.line]
	if c.line == "Turin" {
		raw[0x188] = 0x1A
	}
	if c.vlek {
		le.PutUint32(raw[0x048:], 1<<2)
	} else {
		copy(raw[0x1A0:], c.HardwareID[:])
	}
	for _, f := range change {
		f(raw)
	}
	c.sign(t, raw)
	return raw
}

// sign signs a report as it stands.
func (c *Chip) sign(t testing.TB, raw []byte) {
	t.Helper()
	sum := sha512.Sum384(raw[:0x2A0])
	r, s, err := ecdsa.Sign(rand.Reader, c.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []*big.Int{r, s} {
		le := n.FillBytes(make([]byte, 72))
		slices.Reverse(le)
		copy(raw[0x2A0+72*i:], le)
	}
}

// RevocationList is a list by the root, of the serial numbers given.
func (c *Chip) RevocationList(t testing.TB, until time.Time, serials ...*big.Int) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: From, NextUpdate: until, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: From})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.Root, c.root)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// ListName is the file of the chip's line in a folder of collateral.
func (c *Chip) ListName() string {
	kind := "vcek"
	if c.vlek {
		kind = "vlek"
	}
	return "amd-" + kind + "-" + strings.ToLower(c.line) + ".crl"
}
