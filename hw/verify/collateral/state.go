package collateral

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
)

// Word is what a document is good for.
type Word string

// All words.
const (
	Good    Word = "good"
	Stale   Word = "stale"   // its successor was due
	Early   Word = "early"   // it is not in force yet
	Foreign Word = "foreign" // of another kind of platform than was asked for
	Bad     Word = "bad"     // it can't be read, or nobody who is trusted signed it
	Missing Word = "missing" // there is none
	Older   Word = "older"   // than the one that is kept
)

// State says how a document stands.
type State struct {
	Document string    `json:"document"`            // "TCB info", "QE identity", "PCK CRL", "root CRL", "VCEK list", "VLEK list", "VCEK"
	Of       string    `json:"of,omitzero"`         // FMSPC, or "platform" or "processor", or AMD's line, or line-CHIP-TCB
	Word     Word      `json:"state"`               //
	Detail   string    `json:"detail,omitzero"`     // where it is not good: what is wrong
	Issued   time.Time `json:"issued,omitzero"`     //
	Until    time.Time `json:"until,omitzero"`      // when its successor is due
	Number   int       `json:"evaluation,omitzero"` // tcbEvaluationDataNumber
	Revoked  int       `json:"revoked,omitzero"`    // entries of a revocation list
}

// look says how a document stands at a time: signed under one of the roots (nil: Intel's or
// AMD's), in date, and of what is needed (where n.Of is empty: of anything).
func look(n Need, body, chain []byte, roots []*x509.Certificate, at time.Time) State {
	s := State{Document: n.Kind.String(), Of: n.Of, Word: Good}
	d, err := n.describe(body, chain, roots, at)
	if err != nil {
		s.Word, s.Detail = Bad, err.Error()
		return s
	}
	s.Issued, s.Until, s.Number, s.Revoked = d.Issued.UTC(), d.Until.UTC(), d.Evaluation, d.Revoked
	switch {
	case n.Of != "" && !strings.EqualFold(d.Of, n.Of):
		s.Word, s.Detail = Foreign, fmt.Sprintf("it is of %s, and must be of %s", short(d.Of), short(n.Of))
	case at.Before(d.Issued):
		s.Word, s.Detail = Early, "it is good from "+date(d.Issued)
	case at.After(d.Until):
		s.Word, s.Detail = Stale, "its successor was due on "+date(d.Until)
	}
	if n.Of == "" {
		s.Of = d.Of
	}
	return s
}

// describe reads a document that one of the roots vouches for.
func (n Need) describe(body, chain []byte, roots []*x509.Certificate, at time.Time) (dcap.Description, error) {
	if !n.Kind.ofAMD() {
		if roots == nil {
			roots = []*x509.Certificate{dcap.IntelRoot()}
		}
		return dcap.Describe(dcap.Document(n.Kind), body, chain, roots, at)
	}
	if roots == nil {
		roots = snp.AMDRoots()
	}
	if n.Kind == vcek {
		f, err := snp.DescribeLeaf(body, chain, roots, at)
		return dcap.Description{Of: f.Key.String(), Issued: f.Issued, Until: f.Until}, err
	}
	f, err := snp.DescribeList(body, roots)
	return dcap.Description{Of: strings.ToLower(string(f.Line)), Issued: f.Issued, Until: f.Until, Revoked: f.Revoked}, err
}

// Whose is what the document is of, for readers: chips' ids are cut.
func (s State) Whose() string { return short(s.Of) }

func short(of string) string {
	if k, ok := snp.ParseKey(of); ok {
		return fmt.Sprintf("%s %.16s… at %x", strings.ToLower(string(k.Line)), k.Chip, k.TCB[:])
	}
	return of
}

// Words is the state as a sentence's end.
func (s State) Words() string {
	if s.Word == Good {
		return "good until " + date(s.Until)
	}
	if s.Detail == "" {
		return string(s.Word)
	}
	return string(s.Word) + ": " + s.Detail
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }
