package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// platform is what a quote's PCK certificate says of the machine.
type platform struct {
	fmspc  string // lower-case hex
	ca     string // "platform" or "processor"
	pceID  string
	pceSVN uint16
	cpuSVN []byte // 16 components
}

func (q *Quote) platform() (p platform, err error) {
	defer recovered(&err)
	x, err := pcs.PckCertificateExtensions(q.Chain[0])
	if err != nil {
		return p, fmt.Errorf("PCK certificate: %w", err)
	}
	p = platform{fmspc: strings.ToLower(x.FMSPC), ca: "processor", pceID: x.PCEID, pceSVN: x.TCB.PCESvn, cpuSVN: x.TCB.CPUSvnComponents}
	if strings.Contains(q.Chain[1].Subject.CommonName, "Platform") {
		p.ca = "platform"
	}
	return p, nil
}

// collateral are documents that were read and whose signatures hold.
type collateral struct {
	platform platform
	tcb      pcs.TcbInfo
	qe       pcs.EnclaveIdentity
	revoked  []string // certificates of the quote's chain that are
	until    time.Time
}

// read checks the documents: signed under the roots, in date at
// the time, and of this quote's platform.
func (d *documents) read(q *Quote, roots []*x509.Certificate, at time.Time) (*collateral, error) {
	c := &collateral{}
	var err error
	if c.platform, err = q.platform(); err != nil {
		return nil, err
	}
	if err := d.readSigned(TCBInfo, "tcbInfo", &c.tcb, roots, at); err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}
	if err := d.readSigned(QEIdentity, "enclaveIdentity", &c.qe, roots, at); err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	switch {
	case c.tcb.ID != "TDX" || c.tcb.Version != 3:
		return nil, fmt.Errorf("TCB info is %q of version %d, not \"TDX\" of version 3", c.tcb.ID, c.tcb.Version)
	case c.qe.ID != "TD_QE" || c.qe.Version != 2:
		return nil, fmt.Errorf("QE identity is %q of version %d, not \"TD_QE\" of version 2", c.qe.ID, c.qe.Version)
	case !strings.EqualFold(c.tcb.Fmspc, c.platform.fmspc) || !strings.EqualFold(c.tcb.PceID, c.platform.pceID):
		return nil, fmt.Errorf("TCB info is of the platforms %s, the quote's is %s", c.tcb.Fmspc, c.platform.fmspc)
	}
	c.until = c.tcb.NextUpdate
	if err := errors.Join(
		inDate("TCB info", c.tcb.IssueDate, c.tcb.NextUpdate, at),
		inDate("QE identity", c.qe.IssueDate, c.qe.NextUpdate, at)); err != nil {
		return nil, err
	}
	return c, c.readCRLs(d, q, at)
}

func inDate(what string, from, until, at time.Time) error {
	if at.Before(from) || at.After(until) {
		return fmt.Errorf("%s is good from %s to %s, not at %s", what,
			from.Format(time.DateOnly), until.Format(time.DateOnly), at.UTC().Format(time.DateOnly))
	}
	return nil
}

// tcbSigner is the only name under which Intel signs such documents.
const tcbSigner = "Intel SGX TCB Signing"

// readSigned reads the member of a document that its signature covers, byte
// for byte.
func (d *documents) readSigned(doc Document, member string, into any, roots []*x509.Certificate, at time.Time) error {
	cert, err := signer(d.chain[doc], roots, at)
	if err != nil {
		return err
	}
	if cert.Subject.CommonName != tcbSigner || cert.IsCA {
		return fmt.Errorf("its signer is %q, not %q", cert.Subject.CommonName, tcbSigner)
	}
	var form map[string]json.RawMessage
	if err := json.Unmarshal(d.body[doc], &form); err != nil {
		return err
	}
	var signature string
	if err := json.Unmarshal(form["signature"], &signature); err != nil {
		return fmt.Errorf("its signature: %w", err)
	}
	r, s, err := rawSignature(signature)
	if err != nil {
		return err
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	sum := sha256.Sum256(form[member])
	if !ok || !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
		return errors.New("its signature doesn't hold")
	}
	return json.Unmarshal(form[member], into)
}

// readCRLs looks for the quote's certificates, and the documents' signers,
// in the lists of their issuers.
func (c *collateral) readCRLs(d *documents, q *Quote, at time.Time) error {
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
		cert, err := first(d.chain[doc])
		if err != nil {
			return err
		}
		under = append(under, cert)
	}
	for _, cert := range under {
		c.look(root, cert)
	}
	c.look(pck, q.Chain[0])
	return nil
}

func (c *collateral) look(list *x509.RevocationList, cert *x509.Certificate) {
	for _, r := range list.RevokedCertificateEntries {
		if r.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			c.revoked = append(c.revoked, fmt.Sprintf("%s (serial %x) since %s",
				cert.Subject.CommonName, cert.SerialNumber, r.RevocationTime.UTC().Format(time.DateOnly)))
		}
	}
}

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

func masked(mask, value, want []byte) bool {
	if len(mask) != len(value) || len(want) != len(value) {
		return false
	}
	for i := range value {
		if value[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
