// Package snp answers: whose SNP report is it?
//
// It reads attestation reports of AMD SEV-SNP and the certificates beside them, and checks
// their signatures up to a root (SEV Secure Nested Paging Firmware ABI Specification,
// 56860, and Versioned Chip Endorsement Key Certificate and KDS Interface Specification,
// 57230, both by AMD). It returns what it found. Which of that is good enough is the
// caller's to decide.
//
// The code is our own, on Go's library alone, and not go-sev-guest (v0.15.0), for what that
// does: it checks the signature over a report that it has written anew, so that bits of the
// bytes it was given are free; its built-in roots have no ASVK, so that reports signed by a
// VLEK fail; it knows no CPU of the models A0h–AFh and no certificate of Turin; it asks
// AMD's service unless told not to; its search for revocations fails with a panic on roots
// that have only an ASVK, and reads no date. Its releases v0.13.0 and v0.14.0 took the root
// out of the evidence. All of it is in the reports and certificates of a few AMD lines,
// which is little to read by oneself.
package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Bounds of the certificates beside a report. Real ones have 1 to 2 KiB.
const (
	maxCertificates = 3 // leaf, intermediate, root
	maxCertificate  = 8 << 10
)

// Attestation is a report and the certificates that came with it. It was read; only Vouched
// checks signatures.
type Attestation struct {
	*Report
	Leaf *Leaf // VCEK or VLEK; nil where it didn't come: Vouched asks for it

	intermediate *x509.Certificate // as it came, nil where it didn't
	root         *x509.Certificate // as it came, nil where it didn't
}

// Parse reads a report, of 1,184 bytes and nothing else, and its certificates, each DER:
// the leaf, then the intermediate and the root, of which each may be absent. Without any, the
// host gave none. A certificate that has no place in the chain is an error: its bits would be
// free.
func Parse(report []byte, certificates [][]byte) (*Attestation, error) {
	r, err := parseReport(report)
	if err != nil {
		return nil, err
	}
	a := &Attestation{Report: r}
	if err := a.take(certificates); err != nil {
		return nil, err
	}
	return a, nil
}

// take reads certificates of the chain.
func (a *Attestation) take(certificates [][]byte) error {
	if n := len(certificates); n > maxCertificates {
		return fmt.Errorf("an SNP report must come with at most %d certificates, not %d: the VCEK or VLEK, and those above it", maxCertificates, n)
	}
	for i, der := range certificates {
		if len(der) > maxCertificate {
			return fmt.Errorf("certificate %d of the SNP report must have at most %d bytes, not %d", i, maxCertificate, len(der))
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate %d of the SNP report: %w", i, err)
		}
		switch {
		case i == 0:
			if a.Leaf, err = readLeaf(c); err != nil {
				return fmt.Errorf("certificate 0 of the SNP report: %w", err)
			}
		case a.root != nil:
			return fmt.Errorf("certificate %d of the SNP report stands behind the root", i)
		case bytes.Equal(c.RawSubject, c.RawIssuer):
			a.root = c
		case a.intermediate != nil:
			return fmt.Errorf("certificate %d of the SNP report is a second intermediate", i)
		default:
			a.intermediate = c
		}
	}
	if a.Leaf != nil && a.Leaf.VLEK != a.signedByVLEK {
		return fmt.Errorf("the SNP report is signed by a %s, and the certificate is of a %s", keyName(a.signedByVLEK), keyName(a.Leaf.VLEK))
	}
	return nil
}

// verify checks the signatures from the report up to one of roots, as of the time at; the
// zero time is now. It checks what the leaf says: the product line, all parts of
// REPORTED_TCB, and CHIP_ID where the report has one. Without that, a key that an old
// firmware leaked would sign reports of a newer one. The error is an *untrustedRootError
// where the chain ends in another root.
func (a *Attestation) verify(roots []*x509.Certificate, at time.Time) (Chain, error) {
	if at.IsZero() {
		at = time.Now()
	}
	if a.Leaf == nil {
		return Chain{}, errors.New("the SNP report came without a certificate of the key that signed it")
	}
	c, err := a.chain(roots, at)
	if err != nil {
		return Chain{}, err
	}
	if !a.signed() {
		return Chain{}, errors.New("the SNP report is not signed by the key of its certificate")
	}
	if err := a.agrees(c.Line); err != nil {
		return Chain{}, err
	}
	return c, nil
}

// signed checks the report's signature by the leaf's key, over the bytes as they came.
func (a *Attestation) signed() bool { return a.signedBy(a.Leaf.key) }

func (r *Report) signedBy(key *ecdsa.PublicKey) bool {
	sum := sha512.Sum384(r.raw[:signedEnd])
	x, s := littleEndian(r.raw[signedEnd:][:scalarSize]), littleEndian(r.raw[signedEnd+scalarSize:][:scalarSize])
	return ecdsa.Verify(key, sum[:], x, s)
}

// agrees holds what the report says of its processor against what AMD says of the key.
func (a *Attestation) agrees(line Line) error {
	if a.Version >= 3 {
		if told := lineOf(a.family, a.model); told != line {
			return fmt.Errorf("the SNP report is of a CPU of family %#x, model %#x, and its key of one of the line %s", a.family, a.model, line)
		}
	}
	if a.ReportedTCB != a.Leaf.tcb {
		return fmt.Errorf("REPORTED_TCB is %s, and the key is of %s", a.ReportedTCB.Words(line), a.Leaf.tcb.Words(line))
	}
	if a.Leaf.VLEK || a.ChipID == [64]byte{} {
		return nil // a VLEK is a provider's, of no one chip; MASK_CHIP_ID leaves zeros
	}
	var id [64]byte
	copy(id[:], a.Leaf.hardwareID) // of 8 bytes, the rest are zeros
	if a.ChipID != id {
		return fmt.Errorf("CHIP_ID is %x…, and the key is of the chip %x…", a.ChipID[:8], id[:8])
	}
	return nil
}

// littleEndian reads a number of a signature.
func littleEndian(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

func keyName(vlek bool) string {
	if vlek {
		return "VLEK"
	}
	return "VCEK"
}
