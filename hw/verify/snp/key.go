package snp

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Key names the key of a chip at one TCB, as AMD's service does. Two that are equal name one
// key.
type Key struct {
	Line Line
	Chip string // the hardware id in lower-case hex: 128 digits, 16 of Turin
	TCB  TCB    // REPORTED_TCB
}

// String is the key in the names of files: "milan-CHIP-TCB", the TCB in 16 digits of hex, in the
// report's order of bytes.
func (k Key) String() string {
	return fmt.Sprintf("%s-%s-%x", strings.ToLower(string(k.Line)), k.Chip, k.TCB[:])
}

// ParseKey reads what String writes. False: it is none.
func ParseKey(text string) (Key, bool) {
	parts := strings.Split(text, "-")
	if len(parts) != 3 {
		return Key{}, false
	}
	for _, line := range Lines() {
		tcb, err := hex.DecodeString(parts[2])
		if err != nil || len(tcb) != len(TCB{}) {
			break
		}
		chip, err := hex.DecodeString(parts[1])
		k := Key{line, hex.EncodeToString(chip), TCB(tcb)}
		if err == nil && len(chip) == line.idSize() && k.String() == text { // and in lower case
			return k, true
		}
	}
	return Key{}, false
}

// idSize is how many bytes the hardware id of a line's chips has in certificates.
func (l Line) idSize() int {
	if l == Turin {
		return 8
	}
	return 64
}

// Keys are those of which one signed the report, as it says itself. Reports of version 2 don't
// tell the line: that leaves two. It fails for reports that no public key is known of.
func (r *Report) Keys() ([]Key, error) {
	switch {
	case r.signedByVLEK:
		return nil, errors.New("a VLEK signed it, which AMD gives to the provider alone: the host must give its certificate")
	case r.ChipID == [64]byte{}:
		return nil, errors.New("its CHIP_ID is masked, so nobody can tell which key that is: the host must give its certificate")
	}
	lines := []Line{Milan, Genoa} // TCB_VERSION is of one order in both
	if r.Version >= 3 {
		lines = []Line{lineOf(r.family, r.model)}
	}
	var keys []Key
	for _, l := range lines {
		if l == "" {
			return nil, fmt.Errorf("it is of a CPU of family %#x, model %#x, which is unknown", r.family, r.model)
		}
		keys = append(keys, Key{l, hex.EncodeToString(r.ChipID[:l.idSize()]), r.ReportedTCB})
	}
	return keys, nil
}

// uncertifiedError says that there is no certificate of the key that signed a report: none came
// with it, and nobody can be asked.
type uncertifiedError struct{ err error }

// Error says why.
func (e *uncertifiedError) Error() string {
	return "the SNP report came without the certificate of the key that signed it" + suffix(e.err)
}

// Unwrap returns the cause, nil if nobody was asked.
func (e *uncertifiedError) Unwrap() error { return e.err }

func suffix(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// UnknownKeyError says that AMD's service knows no such key.
type UnknownKeyError struct{ Key Key }

// Error names the chip and the TCB.
func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("AMD's service knows no %s chip %.16s… at TCB %s", e.Key.Line, e.Key.Chip, e.Key.TCB.Words(e.Key.Line))
}

// Unknown reports whether an error is that a source lacks a key's certificate, so that another line's may
// be asked for.
func Unknown(err error) bool {
	_, unknown := errors.AsType[*UnknownKeyError](err)
	_, absent := errors.AsType[*FileError](err)
	return unknown || absent
}

// complete gets the certificates that did not come with the report. With certificates it does
// nothing. Its error is an *uncertifiedError where nobody can be asked for one; others are
// the source's.
func (a *Attestation) complete(ctx context.Context, from Source) error {
	if a.Leaf != nil {
		return nil
	}
	if from == nil {
		return &uncertifiedError{}
	}
	keys, err := a.Keys()
	if err != nil {
		return &uncertifiedError{err}
	}
	for _, k := range keys {
		var leaf, above []byte
		leaf, above, err = from.Certificate(ctx, a.Report, k)
		if Unknown(err) {
			continue
		}
		if err != nil {
			return err
		}
		chain, err := readChain(above)
		if err != nil {
			return err
		}
		return a.take(slices.Concat([][]byte{leaf}, chain))
	}
	return err
}

// Vouched completes and verifies an attestation. It returns the chain, or why it is not trusted.
// The error is the source's.
func (a *Attestation) Vouched(ctx context.Context, from Source, roots []*x509.Certificate, at time.Time) (c Chain, untrusted, err error) {
	err = a.complete(ctx, from)
	if bare, is := errors.AsType[*uncertifiedError](err); is {
		return c, bare, nil
	}
	if err == nil {
		c, untrusted = a.verify(roots, at)
	}
	return c, untrusted, err
}

// Advice is what to do about an attestation that came without certificates, where that helps; else
// "".
func Advice(untrusted error) string {
	if bare, is := errors.AsType[*uncertifiedError](untrusted); is && bare.err == nil {
		return "its host gave none: --online gets it from AMD, and `cimactl collateral fetch EVIDENCE --to DIR` into a folder for --collateral"
	}
	return ""
}
