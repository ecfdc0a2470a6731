package dcap

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/cima-project/cima/logs/canonical"
)

// tcbSigner is the common name of the certificate that signs TCB info and QE
// identity (PCS API v4).
const tcbSigner = "Intel SGX TCB Signing"

// readSigned checks the signature of a document, and reads the member that the
// signature covers, byte for byte. It returns the signer.
func (d *Documents) readSigned(doc Document, member string, into any, roots []*x509.Certificate, at time.Time) (*x509.Certificate, error) {
	cert, err := signer(d.chain[doc], roots, at)
	if err != nil {
		return nil, err
	}
	if cert.Subject.CommonName != tcbSigner || cert.IsCA {
		return nil, fmt.Errorf("its signer is %q, not %q", cert.Subject.CommonName, tcbSigner)
	}
	var form map[string]jsontext.Value
	if err := canonical.Decode(d.body[doc], &form); err != nil {
		return nil, err
	}
	var signature string
	if err := canonical.Decode(form["signature"], &signature); err != nil {
		return nil, fmt.Errorf("its signature: %w", err)
	}
	r, s, err := rawSignature(signature)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	sum := sha256.Sum256(form[member])
	if !ok || !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
		return nil, errors.New("its signature doesn't hold")
	}
	return cert, canonical.Decode(form[member], into)
}

// leaf reads the first certificate of a chain.
func leaf(chain []byte) (*x509.Certificate, error) {
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

// signer reads the first certificate of an issuer chain. A trusted root itself
// must have issued it.
func signer(chain []byte, roots []*x509.Certificate, at time.Time) (*x509.Certificate, error) {
	c, err := leaf(chain)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	// No intermediates: else the certificate of any platform could vouch for it.
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
