package sim

import (
	"bytes"
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
	"slices"

	"github.com/cima-project/cima/hw"
)

// Verifiers demand these common names in a report's chain (AMD, VCEK Certificate and KDS
// Interface Specification). Organization and unit say that it is no hardware's.
const (
	arkName  = "ARK-Milan"
	askName  = "SEV-Milan"
	vcekName = "SEV-VCEK"

	arkUnit  = "CIMA simulated SNP ARK – NOT HARDWARE"
	askUnit  = "CIMA simulated SNP ASK – NOT HARDWARE"
	vcekUnit = "CIMA simulated SNP VCEK – NOT HARDWARE"
)

// Security versions that the chain and the report agree on (TCB_VERSION of Milan).
const (
	snpBootLoader = 4
	snpTEE        = 0
	snpFirmware   = 22
	snpMicrocode  = 213
)

// snp is an SNP guest's platform: a chain like AMD's, by a root of its own.
type snp struct {
	ark, ask, vcek *x509.Certificate
	key            *ecdsa.PrivateKey
	chip           [64]byte
	config         Config
}

func newSNP(config Config) (*snp, error) {
	p := &snp{config: config}
	rand.Read(p.chip[:])
	arkKey, ark, err := root(config.RootFile, func() (crypto.Signer, *x509.Certificate, error) {
		return selfSigned(arkName, arkUnit)
	})
	if err != nil {
		return nil, err
	}
	p.ark = ark
	// AMD's keys have 4096 bits, which would take seconds to make.
	askKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	if p.ask, err = issue(snpCertificate(askName, askUnit, true), ark, askKey, arkKey); err != nil {
		return nil, err
	}
	if p.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		return nil, err
	}
	template := snpCertificate(vcekName, vcekUnit, false)
	if template.ExtraExtensions, err = p.extensions(); err != nil {
		return nil, err
	}
	p.vcek, err = issue(template, p.ask, p.key, askKey)
	return p, err
}

func selfSigned(name, unit string) (crypto.Signer, *x509.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	template := snpCertificate(name, unit, true)
	c, err := issue(template, template, key, key)
	return key, c, err
}

func snpCertificate(name, unit string, ca bool) *x509.Certificate {
	c := certificate(name, unit, ca)
	c.SignatureAlgorithm = x509.SHA384WithRSAPSS
	return c
}

// extensions are what makes a certificate a VCEK: the TCB and the chip that it is for. The
// chip's id stands there bare.
func (p *snp) extensions() (list []pkix.Extension, err error) {
	add := func(value any, tail ...int) {
		der, failed := asn1.Marshal(value)
		if failed != nil {
			err = failed
		}
		list = append(list, pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, tail...), Value: der})
	}
	add(0, 1)
	add(asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte("Milan-B0")}, 2)
	for i, version := range []int{snpBootLoader, snpTEE, snpFirmware, 0, 0, 0, 0, snpMicrocode} {
		add(version, 3, i+1)
	}
	list = append(list, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}, Value: p.chip[:]})
	return list, err
}

func (p *snp) root() []byte { return encode(p.ark) }

// Layout of a report (SEV-SNP Firmware ABI Specification, ATTESTATION_REPORT), in bytes; integers are
// little-endian.
const (
	snpReport = 0x4A0
	snpSigned = 0x2A0
)

// answer is a report over data, and behind it the host's table of certificates.
func (p *snp) answer(now state, data hw.ReportData) ([]byte, error) {
	report, err := p.report(now.MRTD, data)
	if err != nil {
		return nil, err
	}
	return append(report, p.table()...), nil
}

// report is a signed report of the launch that measured as launched.
func (p *snp) report(launched hw.Digest, data hw.ReportData) ([]byte, error) {
	r := make([]byte, snpReport)
	binary.LittleEndian.PutUint32(r[0x000:], 3)
	policy := uint64(0x30000) // SMT allowed; bit 17 is always set
	if p.config.Debug {
		policy |= 1 << 19
	}
	binary.LittleEndian.PutUint64(r[0x008:], policy)
	binary.LittleEndian.PutUint32(r[0x034:], 1) // ECDSA P-384 with SHA-384
	binary.LittleEndian.PutUint64(r[0x040:], 1) // SMT is on
	tcb := [8]byte{snpBootLoader, snpTEE, 6: snpFirmware, 7: snpMicrocode}
	for _, at := range []int{0x038, 0x180, 0x1E0, 0x1F0} { // current, reported, committed, launch
		copy(r[at:], tcb[:])
	}
	copy(r[0x050:], data[:])
	copy(r[0x090:], launched[:])
	for i := range 32 {
		r[0x160+i] = 0xff // no migration agent
	}
	report := sha512.Sum384([]byte("CIMA simulated SNP guest, NOT HARDWARE: report id"))
	copy(r[0x140:], report[:32])
	copy(r[0x188:], []byte{0x19, 1, 1}) // family, model, stepping
	copy(r[0x1A0:], p.chip[:])
	copy(r[0x1E8:], []byte{1, 55, 1, 0, 1, 55, 1}) // build, minor, major: current and committed
	digest := sha512.Sum384(r[:snpSigned])
	x, y, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	if err != nil {
		return nil, err
	}
	for i, part := range [][]byte{x.FillBytes(make([]byte, 72)), y.FillBytes(make([]byte, 72))} {
		slices.Reverse(part)
		copy(r[snpSigned+72*i:], part)
	}
	return r, nil
}

// table is the certificates as a host gives them (SEV-SNP GHCB, section 4.1.8.1).
func (p *snp) table() []byte {
	var head, body bytes.Buffer
	const entry, entries = 24, 4
	for _, c := range []struct {
		guid string
		der  []byte
	}{
		{"\x8d\x75\xda\x63\x64\xe6\x64\x45\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd", p.vcek.Raw},
		{"\x79\xb3\xb7\x4a\xac\xbb\xe4\x4f\xa0\x2f\x05\xae\xf3\x27\xc7\x82", p.ask.Raw},
		{"\xa4\x06\xb4\xc0\x03\xa8\x52\x49\x97\x43\x3f\xb6\x01\x4c\xd0\xae", p.ark.Raw},
	} {
		head.WriteString(c.guid)
		head.Write(binary.LittleEndian.AppendUint32(nil, uint32(entries*entry+body.Len())))
		head.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(c.der))))
		body.Write(c.der)
	}
	head.Write(make([]byte, entry))
	return append(head.Bytes(), body.Bytes()...)
}
