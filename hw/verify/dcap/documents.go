package dcap

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
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

// gather gets the documents for a platform. Its errors are the source's.
func gather(ctx context.Context, source Source, of platform) (*Documents, error) {
	var d Documents
	for doc, of := range []string{TCBInfo: of.fmspc, QEIdentity: "", PCKCRL: of.ca, RootCRL: ""} {
		var err error
		if d.body[doc], d.chain[doc], err = source.Get(ctx, Document(doc), of); err != nil {
			return nil, err
		}
	}
	return &d, nil
}

// Collateral is what the documents say of one platform. Their signatures hold,
// and they are in date.
type Collateral struct {
	*set
	platform platform

	Revoked []string  // certificates of the quote's chain that are revoked: name, serial, since when
	Until   time.Time // as of when Intel replaces the TCB info
}

// set is what the documents say of the platforms of one kind, under the CA and the root of
// one chain.
type set struct {
	tcb pcs.TcbInfo
	qe  pcs.EnclaveIdentity

	above []string             // certificates above the PCK, and signers, that are revoked, as Collateral.Revoked
	pcks  map[string]time.Time // serial numbers of PCK certificates that are revoked, big-endian, and since when
	good  validity             // of all documents and certificates together
}

// validity is a span of time, both ends in it.
type validity struct{ from, until time.Time }

func (v *validity) narrow(from, until time.Time) {
	if v.from.IsZero() || from.After(v.from) {
		v.from = from
	}
	if v.until.IsZero() || until.Before(v.until) {
		v.until = until
	}
}

func (v *validity) holds(at time.Time) bool { return !at.Before(v.from) && !at.After(v.until) }

// read checks the documents and returns what they say: each must be signed under
// the root, in date at the time at, and of the platform's kind. CA and root are those of a
// chain that is trusted.
func (d *Documents) read(of platform, ca, root *x509.Certificate, at time.Time) (*set, error) {
	var s set
	s.good.narrow(root.NotBefore, root.NotAfter)
	roots, signers := []*x509.Certificate{root}, make([]*x509.Certificate, 2)
	var err error
	if signers[0], err = d.readSigned(TCBInfo, "tcbInfo", &s.tcb, roots, at); err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}
	if signers[1], err = d.readSigned(QEIdentity, "enclaveIdentity", &s.qe, roots, at); err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	switch {
	case s.tcb.ID != "TDX" || s.tcb.Version != 3:
		return nil, fmt.Errorf("TCB info is %q of version %d, not \"TDX\" of version 3", s.tcb.ID, s.tcb.Version)
	case s.qe.ID != "TD_QE" || s.qe.Version != 2:
		return nil, fmt.Errorf("QE identity is %q of version %d, not \"TD_QE\" of version 2", s.qe.ID, s.qe.Version)
	}
	if err := s.isOf(of); err != nil {
		return nil, err
	}
	sortLevels(s.tcb.TcbLevels)
	if err := both(
		inDate("TCB info", s.tcb.IssueDate, s.tcb.NextUpdate, at),
		inDate("QE identity", s.qe.IssueDate, s.qe.NextUpdate, at)); err != nil {
		return nil, err
	}
	s.good.narrow(s.tcb.IssueDate, s.tcb.NextUpdate)
	s.good.narrow(s.qe.IssueDate, s.qe.NextUpdate)
	for _, c := range signers {
		s.good.narrow(c.NotBefore, c.NotAfter)
	}
	return &s, s.readCRLs(d, append([]*x509.Certificate{ca}, signers...), root, at)
}

// isOf: the TCB info is of that platform's kind.
func (s *set) isOf(p platform) error {
	if !strings.EqualFold(s.tcb.Fmspc, p.fmspc) || !strings.EqualFold(s.tcb.PceID, p.pceID) {
		return fmt.Errorf("TCB info is of the platforms %s, the quote's is %s", s.tcb.Fmspc, p.fmspc)
	}
	return nil
}

// of is what the set says of one platform, whose PCK certificate is given.
func (s *set) of(p platform, pck *x509.Certificate) (*Collateral, error) {
	if err := s.isOf(p); err != nil {
		return nil, err
	}
	c := &Collateral{set: s, platform: p, Until: s.tcb.NextUpdate, Revoked: s.above}
	if since, ok := s.pcks[string(pck.SerialNumber.Bytes())]; ok {
		c.Revoked = append(slices.Clone(s.above), revoked(pck, since))
	}
	return c, nil
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
