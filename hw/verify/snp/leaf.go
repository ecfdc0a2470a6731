package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Leaf is the certificate of a key that signs reports: a VCEK, of one chip and one TCB, or
// a VLEK, of one provider and one TCB.
type Leaf struct {
	VLEK     bool
	Provider string // CSP id of a VLEK, as AMD wrote it

	tcb        TCB // in the order of the line
	cert       *x509.Certificate
	key        *ecdsa.PublicKey
	line       Line
	hardwareID []byte // of a VCEK: 64 bytes, 8 of Turin
}

// Line is the line of processors that the certificate names.
func (l *Leaf) Line() Line { return l.line }

// amd is the arc of AMD's extensions (57230, section 3.1): 1 version of the structure, 2
// product name, 3.x parts of the TCB, 4 hardware id, 5 CSP id.
var amd = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// maxProvider bounds a CSP id, in bytes.
const maxProvider = 255

// readLeaf reads what the certificate says. Each of AMD's extensions must be there once,
// and none but those that are known.
func readLeaf(c *x509.Certificate) (*Leaf, error) {
	l := &Leaf{cert: c, VLEK: c.Subject.CommonName == "SEV-VLEK"}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P384():
		return nil, errors.New("its key must be ECDSA's, on P-384")
	case !l.VLEK && c.Subject.CommonName != "SEV-VCEK":
		return nil, fmt.Errorf("it must be of SEV-VCEK or SEV-VLEK, not of %q", c.Subject.CommonName)
	case c.Version != 3 || c.IsCA || len(c.UnhandledCriticalExtensions) > 0:
		return nil, errors.New("it must be of version 3, no authority's, and have no critical extension that is unknown")
	}
	l.key = key
	own := make(map[string]asn1.RawContent)
	for _, e := range c.Extensions {
		if len(e.Id) <= len(amd) || !e.Id[:len(amd)].Equal(amd) {
			continue
		}
		name := e.Id[len(amd):].String()
		if _, twice := own[name]; twice {
			return nil, fmt.Errorf("the extension %s stands there twice", e.Id)
		}
		own[name] = e.Value
	}
	if err := l.read(own); err != nil {
		return nil, err
	}
	if len(own) > 0 {
		return nil, fmt.Errorf("there are %d extensions of AMD's arc that are unknown", len(own))
	}
	return l, nil
}

// read takes the extensions that it knows out of own.
func (l *Leaf) read(own map[string]asn1.RawContent) error {
	take := func(name string, to any, params string) error {
		value, there := own[name]
		if !there {
			return fmt.Errorf("the extension %v.%s must be there", amd, name)
		}
		delete(own, name)
		if rest, err := asn1.UnmarshalWithParams(value, to, params); err != nil || len(rest) > 0 {
			return fmt.Errorf("the extension %v.%s can't be read", amd, name)
		}
		return nil
	}
	var structure int
	var product string
	if err := errors.Join(take("1", &structure, ""), take("2", &product, "ia5")); err != nil {
		return err
	}
	if structure < 0 || structure > 1 {
		return fmt.Errorf("its structure must be of version 0 or 1, not %d", structure)
	}
	name, _, _ := strings.Cut(product, "-") // a stepping may follow: Milan-B0
	if l.line = Line(name); !slices.Contains(Lines(), l.line) {
		return fmt.Errorf("it is of a product %q, which is unknown", product)
	}
	for _, p := range slices.Concat(l.line.Parts(), l.line.spare()) {
		var n int
		if err := take(fmt.Sprintf("3.%d", p.under), &n, ""); err != nil {
			return err
		}
		if n < 0 || n > 255 {
			return fmt.Errorf("its part %s of the TCB must be 0 to 255, not %d", p.Name, n)
		}
		l.tcb[p.at] = byte(n)
	}
	if l.VLEK {
		err := take("5", &l.Provider, "ia5")
		if err == nil && (l.Provider == "" || len(l.Provider) > maxProvider) {
			err = fmt.Errorf("its CSP id must have 1 to %d bytes", maxProvider)
		}
		return err
	}
	return l.readHardwareID(own)
}

// readHardwareID reads the id of the chip: raw bytes, or an OCTET STRING of them, which its
// length tells.
func (l *Leaf) readHardwareID(own map[string]asn1.RawContent) error {
	want := l.line.idSize()
	l.hardwareID = own["4"]
	delete(own, "4")
	if len(l.hardwareID) == want+2 {
		var inner []byte
		if rest, err := asn1.Unmarshal(l.hardwareID, &inner); err == nil && len(rest) == 0 {
			l.hardwareID = inner
		}
	}
	if len(l.hardwareID) != want {
		return fmt.Errorf("its hardware id must have %d bytes", want)
	}
	return nil
}
