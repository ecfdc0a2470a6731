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

	"github.com/cima-project/cima/hw"
)

// Extended are the members that a quote's body of type 4 (TD report 1.5 Ex) has besides
// those of type 3.
type Extended struct {
	VMID             byte // 0: the TD itself, or its L1; else a VM in it
	TDID             [32]byte
	DeviceInfo       hw.Digest
	InitialServiceTD hw.Digest // when the TD was made
	CurrentServiceTD hw.Digest // now
}

// Layout of a quote of version 5 with a body of type 4, in bytes.
const (
	descriptorAt   = 48 // type, 2 bytes; size, 4
	bodyAt         = descriptorAt + 6
	bodyType15     = 3
	bodySize15     = 648
	bodyTypeEx     = 4
	bodySizeEx     = 885
	vmIDAt         = 648
	tdIDAt         = 649
	deviceInfoAt   = 681
	initialTDAt    = 729
	currentTDAt    = 829
	attestationKey = 64
)

// isExtended reports whether a quote is of version 5 with a body of type 4.
func isExtended(raw []byte) bool {
	return len(raw) >= bodyAt && binary.LittleEndian.Uint16(raw) == 5 && binary.LittleEndian.Uint16(raw[descriptorAt:]) == bodyTypeEx
}

// shorten makes a body of type 3 of one of type 4: the library reads no other. Its
// signature doesn't hold, so q.signed keeps what was signed.
func shorten(raw []byte) ([]byte, *Extended, error) {
	size := binary.LittleEndian.Uint32(raw[descriptorAt+2:])
	if size != bodySizeEx || len(raw) < bodyAt+bodySizeEx {
		return nil, nil, fmt.Errorf("a body of type 4 must have %d bytes, not %d", bodySizeEx, size)
	}
	body := raw[bodyAt:][:bodySizeEx]
	x := &Extended{
		VMID: body[vmIDAt], TDID: [32]byte(body[tdIDAt:]), DeviceInfo: hw.Digest(body[deviceInfoAt:]),
		InitialServiceTD: hw.Digest(body[initialTDAt:]), CurrentServiceTD: hw.Digest(body[currentTDAt:]),
	}
	short := binary.LittleEndian.AppendUint16(bytes.Clone(raw[:descriptorAt]), bodyType15)
	short = binary.LittleEndian.AppendUint32(short, bodySize15)
	short = append(short, body[:bodySize15]...)
	return append(short, raw[bodyAt+bodySizeEx:]...), x, nil
}

// names of the certificates in Intel's chains (Intel SGX PCK Certificate and CRL Profile
// Specification, section 1.3).
var certificateNames = [chainLength]string{"Intel SGX PCK Certificate", "Intel SGX PCK Platform CA", "Intel SGX Root CA"}

// verifyExtended checks what the library checks of other quotes: the chain up to one of
// the roots, the quoting enclave's report by the PCK, the attestation key by that report,
// and header and body by the attestation key.
func (q *Quote) verifyExtended(roots *x509.CertPool, at time.Time) error {
	if err := q.verifyChain(roots, at); err != nil {
		return err
	}
	auth := q.proto.(*pb.QuoteV5).GetSignedData()
	vouching := auth.GetCertificationData().GetQeReportCertificationData()
	report, err := abi.EnclaveReportToAbiBytes(vouching.GetQeReport())
	if err != nil {
		return err
	}
	pck, ok := q.Chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !signedBy(pck, report, vouching.GetQeReportSignature()) {
		return errors.New("the quoting enclave's report is not signed by the PCK certificate's key")
	}
	raw := auth.GetEcdsaAttestationKey()
	bound := sha256.Sum256(append(bytes.Clone(raw), vouching.GetQeAuthData().GetData()...))
	if data := vouching.GetQeReport().GetReportData(); len(data) != 64 || !bytes.Equal(data[:32], bound[:]) || !bytes.Equal(data[32:], make([]byte, 32)) {
		return errors.New("the quoting enclave's report doesn't bind the attestation key")
	}
	if len(raw) != attestationKey {
		return errors.New("the attestation key is no point of P-256")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, raw...))
	if err != nil {
		return fmt.Errorf("the attestation key is no point of P-256: %w", err)
	}
	if !signedBy(key, q.signed, auth.GetSignature()) {
		return errors.New("header and body are not signed by the attestation key")
	}
	return nil
}

// signedBy checks a signature of r and s, 32 bytes each.
func signedBy(key *ecdsa.PublicKey, message, signature []byte) bool {
	sum := sha256.Sum256(message)
	return len(signature) == 64 && ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

func (q *Quote) verifyChain(roots *x509.CertPool, at time.Time) error {
	for i, c := range q.Chain {
		issuer := q.Chain[min(i+1, chainLength-1)]
		switch {
		case c.Subject.CommonName != certificateNames[i] && !(i == 1 && c.Subject.CommonName == "Intel SGX PCK Processor CA"):
			return fmt.Errorf("certificate %d of the quote's chain is of %q, not of %q", i, c.Subject.CommonName, certificateNames[i])
		case !bytes.Equal(c.RawIssuer, issuer.RawSubject):
			return fmt.Errorf("certificate %d of the quote's chain is not issued by the next one", i)
		case at.Before(c.NotBefore) || at.After(c.NotAfter):
			return fmt.Errorf("certificate %d of the quote's chain is good from %s to %s", i, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
		}
		if err := c.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("certificate %d of the quote's chain: %w", i, err)
		}
	}
	intermediates := x509.NewCertPool()
	intermediates.AddCert(q.Chain[1])
	_, err := q.Chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}
