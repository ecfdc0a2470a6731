package dcap

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// Documents are all documents on the platform of one quote, as a source gave
// them. Nothing of them is checked.
type Documents struct {
	body  [RootCRL + 1][]byte
	chain [RootCRL + 1][]byte
}

// Gather gets the documents for the platform of a quote. Its errors are the
// source's, or say that the PCK certificate can't be read.
func Gather(ctx context.Context, source Source, q *Quote) (*Documents, error) {
	platform, err := q.platform()
	if err != nil {
		return nil, err
	}
	var d Documents
	for doc, of := range []string{TCBInfo: platform.fmspc, QEIdentity: "", PCKCRL: platform.ca, RootCRL: ""} {
		if d.body[doc], d.chain[doc], err = source.Get(ctx, Document(doc), of); err != nil {
			return nil, err
		}
	}
	return &d, nil
}

// Collateral is what the documents say of one platform. Their signatures hold,
// and they are in date.
type Collateral struct {
	platform platform
	tcb      pcs.TcbInfo
	qe       pcs.EnclaveIdentity

	Revoked []string  // certificates of the quote's chain that are revoked: name, serial, since when
	Until   time.Time // as of when Intel replaces the TCB info
}

// Read checks the documents and returns what they say: each must be signed under
// one of the roots, in date at the time at, and of this quote's platform.
func (d *Documents) Read(q *Quote, roots []*x509.Certificate, at time.Time) (*Collateral, error) {
	c := &Collateral{}
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
	sortLevels(c.tcb.TcbLevels)
	c.Until = c.tcb.NextUpdate
	if err := both(
		inDate("TCB info", c.tcb.IssueDate, c.tcb.NextUpdate, at),
		inDate("QE identity", c.qe.IssueDate, c.qe.NextUpdate, at)); err != nil {
		return nil, err
	}
	return c, c.readCRLs(d, q, at)
}

// both joins two errors in one line.
func both(a, b error) error {
	if a != nil && b != nil {
		return fmt.Errorf("%w; %w", a, b)
	}
	return errors.Join(a, b)
}

func inDate(what string, from, until, at time.Time) error {
	if at.Before(from) || at.After(until) {
		return fmt.Errorf("%s is good from %s to %s, not at %s", what,
			from.Format(time.DateOnly), until.Format(time.DateOnly), at.UTC().Format(time.DateOnly))
	}
	return nil
}
