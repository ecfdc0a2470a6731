package dcap

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/cima-project/cima/hw/verify/crl"
)

// readCRLs reads the two revocation lists, and looks in the root's for the certificates
// that it issued: the CA, which comes first, and the documents' signers.
func (s *set) readCRLs(d *Documents, under []*x509.Certificate, root *x509.Certificate, at time.Time) error {
	list, err := readCRL(d.body[RootCRL], root, at)
	if err != nil {
		return fmt.Errorf("root CRL: %w", err)
	}
	pck, err := readCRL(d.body[PCKCRL], under[0], at)
	if err != nil {
		return fmt.Errorf("PCK CRL: %w", err)
	}
	s.good.narrow(list.ThisUpdate, list.NextUpdate)
	s.good.narrow(pck.ThisUpdate, pck.NextUpdate)
	all := serials(list)
	for _, cert := range under {
		if since, ok := all[string(cert.SerialNumber.Bytes())]; ok {
			s.above = append(s.above, revoked(cert, since))
		}
	}
	s.pcks = serials(pck)
	return nil
}

// serials are the serial numbers on a list, as big-endian bytes, with the first entry's date.
func serials(list *x509.RevocationList) map[string]time.Time {
	all := make(map[string]time.Time, len(list.RevokedCertificateEntries))
	for _, r := range list.RevokedCertificateEntries {
		if _, ok := all[string(r.SerialNumber.Bytes())]; !ok {
			all[string(r.SerialNumber.Bytes())] = r.RevocationTime
		}
	}
	return all
}

func revoked(cert *x509.Certificate, since time.Time) string {
	return fmt.Sprintf("%s (serial %x) since %s", cert.Subject.CommonName, cert.SerialNumber, since.UTC().Format(time.DateOnly))
}

// readCRL reads a list that issuer must have signed, and that is in date.
func readCRL(der []byte, issuer *x509.Certificate, at time.Time) (*x509.RevocationList, error) {
	list, err := crl.Read(der, issuer)
	if err != nil {
		return nil, err
	}
	return list, inDate("it", list.ThisUpdate, list.NextUpdate, at)
}
