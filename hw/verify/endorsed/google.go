// Package endorsed answers: which values of a boot does somebody else vouch for?
//
// It reads Google's launch endorsement of a firmware build, and checks its signature up to
// a root that the relying party gives; and values that somebody publishes, those of a
// machine apart from those of a system. It does no I/O.
package endorsed

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds of an endorsement.
const (
	MaxEndorsement  = 1 << 20 // bytes
	maxMeasurements = 4096
	maxFields       = 10000
)

// Google is what Google vouches for of a firmware build (VMGoldenMeasurement, in
// gce-tcb-verifier's proto/endorsement.proto).
type Google struct {
	Signed       time.Time
	Change       uint64 // the number of the change that it was built from; 0 for none
	Commit       []byte
	Firmware     []byte // SHA-384 of the firmware's image
	SVN          uint64 // the firmware's security version for TDX
	Measurements []Measurement
	Unknown      []int // numbers of fields that this program doesn't know, of any message
	Signer       *x509.Certificate

	certificate, bundle []byte
}

// Measurement is MRTD for a size of memory.
type Measurement struct {
	GiB         uint64
	EarlyAccept bool // the firmware accepts all memory before it starts the system
	MRTD        [48]byte
}

// ReadGoogle reads an endorsement (VMLaunchEndorsement), and fails unless a certificate of
// the roots signed it and is valid at the time.
func ReadGoogle(endorsement []byte, roots *x509.CertPool, at time.Time) (*Google, error) {
	if len(endorsement) > MaxEndorsement {
		return nil, fmt.Errorf("an endorsement must have at most %d bytes", MaxEndorsement)
	}
	var golden, signature []byte
	g := &Google{}
	err := message(endorsement, &g.Unknown, map[protowire.Number]any{1: &golden, 2: &signature})
	if err == nil && (golden == nil || signature == nil) {
		err = errors.New("it must have a measurement and a signature")
	}
	if err != nil {
		return nil, fmt.Errorf("no launch endorsement: %w", err)
	}
	if err := g.golden(golden); err != nil {
		return nil, fmt.Errorf("the signed measurement: %w", err)
	}
	if err := g.verify(golden, signature, roots, at); err != nil {
		return nil, err
	}
	return g, nil
}

// message reads the fields of a protobuf message. What a field may be: *[]byte, *uint64, or
// a function for one that may be there several times. A field that is there twice is
// refused: readers differ in which counts.
func message(b []byte, unknown *[]int, fields map[protowire.Number]any) error {
	seen := make(map[protowire.Number]bool)
	for n := 0; len(b) > 0; n++ {
		if n == maxFields {
			return fmt.Errorf("a message must have at most %d fields", maxFields)
		}
		number, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		to, known := fields[number]
		if _, repeated := to.(func([]byte) error); known && !repeated && seen[number] {
			return fmt.Errorf("field %d is there twice", number)
		}
		seen[number] = true
		value := protowire.ConsumeFieldValue(number, kind, b)
		if value < 0 {
			return protowire.ParseError(value)
		}
		if err := set(to, kind, b[:value]); err != nil {
			return fmt.Errorf("field %d: %w", number, err)
		}
		if !known && !slices.Contains(*unknown, int(number)) {
			*unknown = append(*unknown, int(number))
		}
		b = b[value:]
	}
	return nil
}

// set reads one value.
func set(to any, kind protowire.Type, b []byte) error {
	if to == nil {
		return nil
	}
	if number, ok := to.(*uint64); ok {
		if kind != protowire.VarintType {
			return errors.New("it must be a number")
		}
		*number, _ = protowire.ConsumeVarint(b)
		return nil
	}
	if kind != protowire.BytesType {
		return errors.New("it must be bytes")
	}
	data, _ := protowire.ConsumeBytes(b)
	if each, ok := to.(func([]byte) error); ok {
		return each(data)
	}
	*to.(*[]byte) = append([]byte{}, data...)
	return nil
}

// golden reads VMGoldenMeasurement.
func (g *Google) golden(b []byte) error {
	var timestamp, snp, tdx []byte
	if err := message(b, &g.Unknown, map[protowire.Number]any{
		1: &timestamp, 2: &g.Change, 3: &g.Commit, 4: &g.certificate, 5: &g.Firmware, 6: &g.bundle, 7: &snp, 8: &tdx,
	}); err != nil {
		return err
	}
	var seconds, nanos uint64
	if err := message(timestamp, &g.Unknown, map[protowire.Number]any{1: &seconds, 2: &nanos}); err != nil {
		return fmt.Errorf("its time: %w", err)
	}
	if seconds > 1<<40 || nanos >= 1e9 {
		return errors.New("its time must be one of this era")
	}
	g.Signed = time.Unix(int64(seconds), int64(nanos)).UTC()
	switch {
	case tdx == nil:
		return errors.New("it is of no firmware for TDs")
	case len(g.Firmware) != 48:
		return fmt.Errorf("the firmware's digest must have 48 bytes, not %d", len(g.Firmware))
	case g.Change == 0 && len(g.Commit) == 0:
		return errors.New("it must say what the firmware was built from")
	}
	if err := message(tdx, &g.Unknown, map[protowire.Number]any{1: &g.SVN, 2: g.measurement}); err != nil {
		return err
	}
	if len(g.Measurements) == 0 {
		return errors.New("it has no measurement of a TD")
	}
	return nil
}

func (g *Google) measurement(b []byte) error {
	if len(g.Measurements) == maxMeasurements {
		return fmt.Errorf("there must be at most %d measurements", maxMeasurements)
	}
	var m Measurement
	var early uint64
	var mrtd []byte
	if err := message(b, &g.Unknown, map[protowire.Number]any{1: &m.GiB, 2: &early, 3: &mrtd}); err != nil {
		return err
	}
	if len(mrtd) != len(m.MRTD) || [48]byte(mrtd) == m.MRTD {
		return fmt.Errorf("MRTD must have 48 bytes, not all zero")
	}
	m.EarlyAccept, m.MRTD = early != 0, [48]byte(mrtd)
	g.Measurements = append(g.Measurements, m)
	return nil
}

// verify checks the signer's certificate, and then what it signed.
func (g *Google) verify(golden, signature []byte, roots *x509.CertPool, at time.Time) error {
	signer, err := x509.ParseCertificate(g.certificate)
	if err != nil {
		return fmt.Errorf("the signer's certificate: %w", err)
	}
	between := x509.NewCertPool()
	between.AppendCertsFromPEM(g.bundle)
	if _, err := signer.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fmt.Errorf("the signer's certificate does not lead to the root that was given: %w", err)
	}
	if err := signer.CheckSignature(x509.SHA256WithRSAPSS, golden, signature); err != nil {
		return fmt.Errorf("the signature does not hold: %w", err)
	}
	g.Signer = signer
	return nil
}
