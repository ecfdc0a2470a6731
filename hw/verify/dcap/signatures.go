package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"
)

// Members of a quote's header (appendix A.3): attestation key type, TEE type.
const (
	ecdsaP256 = 2
	teeTDX    = 0x81
)

// Verify checks the signatures from the TD's report up to one of roots, as of
// the time at. TCB status, the quoting enclave's identity and revocation need
// collateral and are no part of it. The error is an *UntrustedRootError where
// the chain ends in another root.
func (q *Quote) Verify(roots []*x509.Certificate, at time.Time) error {
	return NewHeld().Verify(q, roots, at)
}

// Verify is as Quote.Verify, and checks the certificates above the PCK once for as long as
// they are held.
func (h *Held) Verify(q *Quote, roots []*x509.Certificate, at time.Time) (err error) {
	defer recovered(&err)
	trusted := q.TrustedRoot(roots, at)
	if trusted == nil {
		return &UntrustedRootError{q.Root()}
	}
	return h.verifySignatures(q, trusted, orNow(at))
}

// verifySignatures checks the chain up to the trusted root, the quoting enclave's report by
// the PCK, the attestation key by that report, and header and body by the attestation key.
func (h *Held) verifySignatures(q *Quote, trusted *x509.Certificate, at time.Time) error {
	if tee, algorithm := binary.LittleEndian.Uint32(q.signed[4:]), binary.LittleEndian.Uint16(q.signed[2:]); tee != teeTDX || algorithm != ecdsaP256 {
		return fmt.Errorf("the quote is of a TEE of type %#x with keys of kind %d, not of TDX (%#x) with ECDSA on P-256 (%d)", tee, algorithm, teeTDX, ecdsaP256)
	}
	if err := h.verifyChain(q.Chain, trusted, at); err != nil {
		return err
	}
	if _, err := q.platform(); err != nil {
		return err
	}
	vouching := q.auth.GetCertificationData().GetQeReportCertificationData()
	report, err := abi.EnclaveReportToAbiBytes(vouching.GetQeReport())
	if err != nil {
		return err
	}
	pck, ok := q.Chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !signedBy(pck, report, vouching.GetQeReportSignature()) {
		return errors.New("the quoting enclave's report is not signed by the PCK certificate's key")
	}
	key, err := attestationKey(q.auth, vouching)
	if err != nil {
		return err
	}
	if !signedBy(key, q.signed, q.auth.GetSignature()) {
		return errors.New("header and body are not signed by the attestation key")
	}
	return nil
}

// attestationKey reads the key, which the quoting enclave's report must bind.
func attestationKey(auth *pb.Ecdsa256BitQuoteV4AuthData, vouching *pb.QEReportCertificationData) (*ecdsa.PublicKey, error) {
	raw := auth.GetEcdsaAttestationKey()
	bound := sha256.Sum256(append(bytes.Clone(raw), vouching.GetQeAuthData().GetData()...))
	if data := vouching.GetQeReport().GetReportData(); len(data) != 64 || !bytes.Equal(data[:32], bound[:]) || !bytes.Equal(data[32:], make([]byte, 32)) {
		return nil, errors.New("the quoting enclave's report doesn't bind the attestation key")
	}
	if len(raw) != 64 {
		return nil, errors.New("the attestation key is no point of P-256")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, raw...))
	if err != nil {
		return nil, fmt.Errorf("the attestation key is no point of P-256: %w", err)
	}
	return key, nil
}

// signedBy checks a signature of r and s, 32 bytes each.
func signedBy(key *ecdsa.PublicKey, message, signature []byte) bool {
	sum := sha256.Sum256(message)
	return len(signature) == 64 && ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

// Names of the certificates in Intel's chains (Intel SGX PCK Certificate and CRL Profile
// Specification, section 1.3). Platforms with TDX have a Platform CA.
var certificateNames = [chainLength]string{"Intel SGX PCK Certificate", "Intel SGX PCK Platform CA", "Intel SGX Root CA"}

// verifyChain checks a quote's chain, which ends in the trusted root or another
// certificate of the same authority.
func (h *Held) verifyChain(chain []*x509.Certificate, trusted *x509.Certificate, at time.Time) error {
	for i, c := range chain {
		if err := wellFormed(c, chain[min(i+1, chainLength-1)], certificateNames[i]); err != nil {
			return fmt.Errorf("certificate %d of the quote's chain %w", i, err)
		}
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return fmt.Errorf("certificate %d of the quote's chain is good from %s to %s", i, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
		}
	}
	authority, err := h.authority(chain[1], chain[2], trusted, at)
	if err != nil {
		return err
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: authority, CurrentTime: at})
	return err
}

// wellFormed checks what each certificate of Intel's must be.
func wellFormed(c, issuer *x509.Certificate, name string) error {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case c.Version != 3 || c.SignatureAlgorithm != x509.ECDSAWithSHA256 || !ok || key.Curve != elliptic.P256():
		return errors.New("is not of version 3, with a key of P-256, signed with ECDSA and SHA-256")
	case c.Subject.CommonName != name:
		return fmt.Errorf("is of %q, not of %q", c.Subject.CommonName, name)
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject):
		return errors.New("is not issued by the next one")
	}
	return nil
}
