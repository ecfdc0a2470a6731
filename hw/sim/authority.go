package sim

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"syscall"
	"time"
)

// Verifiers demand these common names in a quote's chain (go-tdx-guest verify,
// Intel's QVL). Organization and unit say that it is no hardware's.
const (
	rootName         = "Intel SGX Root CA"
	intermediateName = "Intel SGX PCK Platform CA"
	leafName         = "Intel SGX PCK Certificate"

	organization     = "CIMA simulated TD – NOT HARDWARE"
	rootUnit         = "CIMA simulated TD root CA – NOT HARDWARE"
	intermediateUnit = "CIMA simulated TD platform CA – NOT HARDWARE"
	leafUnit         = "CIMA simulated TD PCK – NOT HARDWARE"
)

// authority holds all keys that sign: the root's for the platform CA, the
// platform CA's for the PCK, the PCK for the QE report, which vouches for the
// attestation key.
type authority struct {
	rootCA, ca  CA
	rootPEM     []byte
	chainPEM    []byte // PCK, platform CA, root
	pck         *ecdsa.PrivateKey
	attestation *ecdsa.PrivateKey
}

// CA is a certificate authority: what it signs counts for the simulated platform.
type CA struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Authorities are the root of a TD's platform and the CA below it, which issued the PCK
// certificate, for tests that sign collateral as Intel does. No key of a simulated machine
// is a secret. False: the machine is no TD of its own.
func (m *Machine) Authorities() (root, platform CA, ok bool) {
	td, ok := m.keys.(tdx)
	if !ok {
		return root, platform, false
	}
	return td.keys.rootCA, td.keys.ca, true
}

func newAuthority(rootFile string) (*authority, error) {
	rootKey, rootCert, err := root(rootFile, intelRoot)
	if err != nil {
		return nil, err
	}
	platformKey, pckKey, attestationKey, err := threeKeys()
	if err != nil {
		return nil, err
	}
	platform, err := issue(certificate(intermediateName, intermediateUnit, true), rootCert, platformKey, rootKey)
	if err != nil {
		return nil, err
	}
	template := certificate(leafName, leafUnit, false)
	if template.ExtraExtensions, err = sgxExtensions(); err != nil {
		return nil, err
	}
	pck, err := issue(template, platform, pckKey, platformKey)
	if err != nil {
		return nil, err
	}
	a := &authority{rootCA: CA{rootCert, rootKey}, ca: CA{platform, platformKey}, pck: pckKey, attestation: attestationKey, rootPEM: encode(rootCert)}
	a.chainPEM = bytes.Join([][]byte{encode(pck), encode(platform), a.rootPEM}, nil)
	return a, nil
}

func threeKeys() (a, b, c *ecdsa.PrivateKey, err error) {
	for _, key := range []**ecdsa.PrivateKey{&a, &b, &c} {
		if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, nil, nil, err
		}
	}
	return a, b, c, nil
}

func certificate(name, unit string, ca bool) *x509.Certificate {
	now := time.Now().Truncate(time.Second)
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	c := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name, Organization: []string{organization}, OrganizationalUnit: []string{unit}},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(5, 0, 0),
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
		BasicConstraintsValid: true,
		IsCA:                  ca,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		CRLDistributionPoints: []string{"https://simulated-td.invalid/crl"},
	}
	if ca {
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	} else {
		id := make([]byte, 20)
		rand.Read(id)
		c.SubjectKeyId = id
	}
	return c
}

func issue(template, parent *x509.Certificate, key, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// intelRoot makes a root like Intel's.
func intelRoot() (crypto.Signer, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate(rootName, rootUnit, true)
	cert, err := issue(template, template, key, key)
	return key, cert, err
}

// root reads the root from the file at path, or has one made and writes it there.
// With no path the root is for this boot alone.
func root(path string, makeRoot func() (crypto.Signer, *x509.Certificate, error)) (crypto.Signer, *x509.Certificate, error) {
	if path != "" {
		key, cert, err := readRoot(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return key, cert, err
		}
	}
	key, cert, err := makeRoot()
	if err != nil || path == "" {
		return key, cert, err
	}
	return key, cert, writeRoot(path, key, cert)
}

func writeRoot(path string, key crypto.Signer, cert *x509.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), encode(cert)...)
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Close()
}

func readRoot(path string) (crypto.Signer, *x509.Certificate, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || info.Size() > 1<<16 {
		return nil, nil, fmt.Errorf("%s: a key must be in a small regular file that only its owner can read: chmod 600 it, or remove it", path)
	}
	text := make([]byte, info.Size())
	if _, err := f.ReadAt(text, 0); err != nil {
		return nil, nil, err
	}
	first, rest := pem.Decode(text)
	second, _ := pem.Decode(rest)
	if first == nil || second == nil {
		return nil, nil, fmt.Errorf("%s must hold a private key and a certificate in PEM; remove it to get a new root", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(first.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	cert, err := x509.ParseCertificate(second.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok || !keyOf(key, cert) {
		return nil, nil, fmt.Errorf("%s: the key must be the certificate's; remove it to get a new root", path)
	}
	return key, cert, nil
}

// sgxExtensions are what makes a certificate a PCK certificate (Intel SGX PCK
// Certificate and Certificate Revocation List Profile, section 1.3.5).
func sgxExtensions() ([]pkix.Extension, error) {
	oid := func(tail ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, tail...)
	}
	type field struct {
		ID    asn1.ObjectIdentifier
		Value any
	}
	ppid, instance := make([]byte, 16), make([]byte, 16)
	rand.Read(ppid)
	rand.Read(instance)
	var tcb []field
	for i, svn := range cpuSVN {
		tcb = append(tcb, field{oid(2, i+1), int(svn)})
	}
	tcb = append(tcb, field{oid(2, 17), pceSVN}, field{oid(2, 18), cpuSVN[:]})
	der, err := asn1.Marshal([]field{
		{oid(1), ppid},
		{oid(2), tcb},
		{oid(3), []byte{0, 0}},
		{oid(4), []byte("CIMA\x00\x00")}, // FMSPC: no processor has it
		{oid(5), asn1.Enumerated(1)},     // SGX type: scalable
		// What platform CA's certificates have besides, and Trustee asks for.
		{oid(6), instance},
		{oid(7), []field{{oid(7, 1), false}, {oid(7, 2), false}, {oid(7, 3), false}}}, // dynamic platform, cached keys, SMT
	})
	return []pkix.Extension{{Id: oid(), Value: der}}, err
}
