// Package crl answers: which certificates has their issuer revoked?
package crl

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Read reads a revocation list (RFC 5280, section 5; DER) that issuer must have signed. It
// fails on a list that may name less, or others, than what issuer revoked: one without the
// date of the next, a part of a list, and one with a critical extension, since none is
// understood here ("MUST NOT use that CRL", sections 5.2 and 5.3). The caller compares the dates
// with its time.
func Read(der []byte, issuer *x509.Certificate) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("the list is by %s, not by %s", list.Issuer, issuer.Subject)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("the list's signature doesn't hold: %w", err)
	}
	if list.NextUpdate.IsZero() {
		return nil, errors.New("the list doesn't say when the next one is due")
	}
	if err := understood(list.Extensions, "the list"); err != nil {
		return nil, err
	}
	for _, entry := range list.RevokedCertificateEntries {
		if err := understood(entry.Extensions, fmt.Sprintf("the list's entry %x", entry.SerialNumber)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// understood refuses what changes the meaning of what it is in.
func understood(extensions []pkix.Extension, of string) error {
	for _, x := range extensions {
		if x.Critical || partial(x.Id) {
			return fmt.Errorf("%s has the extension %s, which cima doesn't understand: it must be a whole list, of its issuer's own certificates", of, x.Id)
		}
	}
	return nil
}

// partial reports whether an extension says that the list is a part, or an entry another
// issuer's: the issuing distribution point, the delta CRL indicator and the certificate
// issuer. RFC 5280 has them critical; a careless issuer may not.
func partial(id asn1.ObjectIdentifier) bool {
	for _, last := range []int{27, 28, 29} {
		if id.Equal(asn1.ObjectIdentifier{2, 5, 29, last}) {
			return true
		}
	}
	return false
}
