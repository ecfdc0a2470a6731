package dcap

import (
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/cima-project/cima/hw/verify/crl"
)

// Description is what a document says of itself.
type Description struct {
	Of         string    // TCBInfo: the FMSPC; PCKCRL: "platform" or "processor"; else ""
	Issued     time.Time // when Intel signed it
	Until      time.Time // when its successor is due
	Evaluation int       // tcbEvaluationDataNumber of TCBInfo and QEIdentity
	Revoked    int       // entries of a revocation list
}

// Describe reads a document as a source gave it, and checks that it is signed under one
// of the roots. It does not compare the dates with the time at: the caller does. The
// signer's certificate must be good at that time.
func Describe(doc Document, body, chain []byte, roots []*x509.Certificate, at time.Time) (Description, error) {
	var d Documents
	d.body[doc], d.chain[doc] = body, chain
	switch doc {
	case TCBInfo:
		var t pcs.TcbInfo
		_, err := d.readSigned(doc, "tcbInfo", &t, roots, at)
		return Description{Of: strings.ToLower(t.Fmspc), Issued: t.IssueDate, Until: t.NextUpdate, Evaluation: t.TcbEvaluationDataNumber}, err
	case QEIdentity:
		var t pcs.EnclaveIdentity
		_, err := d.readSigned(doc, "enclaveIdentity", &t, roots, at)
		return Description{Issued: t.IssueDate, Until: t.NextUpdate, Evaluation: t.TcbEvaluationDataNumber}, err
	case PCKCRL:
		issuer, err := signer(chain, roots, at)
		if err != nil {
			return Description{}, err
		}
		x, err := describeCRL(body, []*x509.Certificate{issuer})
		x.Of = caName(issuer)
		return x, err
	}
	return describeCRL(body, roots)
}

// describeCRL reads a list that one of the issuers signed.
func describeCRL(der []byte, issuers []*x509.Certificate) (x Description, err error) {
	err = errors.New("no root is trusted")
	for _, issuer := range issuers {
		var list *x509.RevocationList
		if list, err = crl.Read(der, issuer); err == nil {
			return Description{Issued: list.ThisUpdate, Until: list.NextUpdate, Revoked: len(list.RevokedCertificateEntries)}, nil
		}
	}
	return x, err
}

// caName is the service's word for the CA that issues PCK certificates.
func caName(ca *x509.Certificate) string {
	if strings.Contains(ca.Subject.CommonName, "Platform") {
		return "platform"
	}
	return "processor"
}

// Kind says which documents are needed for a quote: the FMSPC of its platform (12
// lower-case hex digits), and the CA of its PCK certificate ("platform" or "processor").
func (q *Quote) Kind() (fmspc, ca string, err error) {
	p, err := q.platform()
	return p.fmspc, p.ca, err
}

// String is the document's name for people.
func (doc Document) String() string {
	return [...]string{"TCB info", "QE identity", "PCK CRL", "root CRL"}[doc]
}
