package dcap

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"
)

// readCRLs reads the two revocation lists, and looks in the list of each issuer
// for the quote's certificates and the documents' signers.
func (c *Collateral) readCRLs(d *Documents, q *Quote, at time.Time) error {
	root, err := readCRL(d.body[RootCRL], q.Chain[2], at)
	if err != nil {
		return fmt.Errorf("root CRL: %w", err)
	}
	pck, err := readCRL(d.body[PCKCRL], q.Chain[1], at)
	if err != nil {
		return fmt.Errorf("PCK CRL: %w", err)
	}
	under := []*x509.Certificate{q.Chain[1]}
	for _, doc := range []Document{TCBInfo, QEIdentity} {
		cert, err := leaf(d.chain[doc])
		if err != nil {
			return err
		}
		under = append(under, cert)
	}
	for _, cert := range under {
		c.findRevoked(root, cert)
	}
	c.findRevoked(pck, q.Chain[0])
	return nil
}

// findRevoked notes the certificate if it is on the list.
func (c *Collateral) findRevoked(list *x509.RevocationList, cert *x509.Certificate) {
	for _, r := range list.RevokedCertificateEntries {
		if r.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			c.Revoked = append(c.Revoked, fmt.Sprintf("%s (serial %x) since %s",
				cert.Subject.CommonName, cert.SerialNumber, r.RevocationTime.UTC().Format(time.DateOnly)))
		}
	}
}

// readCRL reads a list that issuer must have signed, and that is in date.
func readCRL(der []byte, issuer *x509.Certificate, at time.Time) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("it is by %s, not by %s", list.Issuer, issuer.Subject)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("its signature doesn't hold: %w", err)
	}
	return list, inDate("it", list.ThisUpdate, list.NextUpdate, at)
}
