package vtpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/pcr"
)

// Quote is what a TPM signed over its PCRs in the bank of SHA-256, and over data.
type Quote struct {
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
	PCRs      []byte // 24 values of 32 bytes; they hash to what is signed
}

// maxData bounds what a quote is over: a TPMT_HA of SHA-384 (TPM2B_DATA).
const maxData = 50

// quoteTries is how often PCRs may change between quote and reading.
const quoteTries = 5

// Quote asks the key at this handle, which needs no password, for a signature over data, at most 50
// bytes, and PCRs 0–23. The PCRs are read after it; where one was extended between, it
// quotes again, a few times.
func (t *TPM) Quote(ctx context.Context, key uint32, data []byte) (q Quote, err error) {
	if len(data) > maxData {
		return q, fmt.Errorf("a TPM quotes over at most %d bytes, not %d", maxData, len(data))
	}
	for range quoteTries {
		if q, err = t.quoteOnce(ctx, key, data); err != nil {
			return Quote{}, err
		}
		signed, err := ReadAttest(q.Attest)
		switch {
		case err != nil:
			return Quote{}, err
		case !bytes.Equal(signed.data, data):
			return Quote{}, fmt.Errorf("TPM2_Quote: %w: it is over other data", errMalformed)
		}
		if q.PCRs, err = t.sha256Values(ctx); err != nil {
			return Quote{}, err
		}
		if signed.Covers(q.PCRs) == nil {
			return q, nil
		}
	}
	return Quote{}, errors.New("TPM2_Quote: PCRs changed with every quote: something extends them without pause")
}

func (t *TPM) quoteOnce(ctx context.Context, key uint32, data []byte) (q Quote, err error) {
	const algNull = 0x0010 // the key's own scheme
	parameters := appendSized(nil, data)
	parameters = append(parameters, algNull>>8, algNull&0xff)
	parameters = appendSelections(parameters, selection{algSHA256, 1<<count - 1})
	r, err := t.do(ctx, &command{name: "Quote", code: 0x158, handles: []uint32{key}, authorized: true, parameters: parameters})
	if err != nil {
		return q, err
	}
	q.Attest = r.sized()
	q.Signature = []byte(r.rest())
	s := &reader{command: "Quote", b: q.Signature, err: r.err}
	scheme, hash := s.u16(), s.u16()
	s.must(scheme == 0x0014 && hash == algSHA256, "a signature of scheme %#x with hash %#x, must be RSASSA with SHA-256", scheme, hash)
	s.must(len(s.sized()) > 0, "an empty signature")
	return q, s.done()
}

// Attest is a TPMS_ATTEST of a quote over PCRs 0–23 of the bank of SHA-256 (TPM 2.0
// Library, part 2, section 10.12). Nothing says that a TPM made it.
type Attest struct {
	data   []byte // the qualifying data
	digest []byte
}

// ReadAttest reads one. It refuses attestations of another kind, other PCRs and other
// banks.
func ReadAttest(b []byte) (a Attest, err error) {
	const magic, quoted = 0xff544347, 0x8018 // TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE
	r := &reader{command: "Quote", b: b}
	begins, kind := r.u32(), r.u16()
	r.must(begins == magic && kind == quoted, "an attestation of magic %#x and type %#x", begins, kind)
	r.sized() // who signed: a name that the verifier does not need
	a.data = r.sized()
	r.u64() // clock
	r.u32() // resetCount
	r.u32() // restartCount
	safe := r.u8()
	r.must(safe <= 1, "a flag of %d", safe)
	r.u64() // firmware version
	selected := r.selections()
	r.must(len(selected) == 1 && selected[0] == selection{algSHA256, 1<<count - 1}, "a quote over %v, must be over PCRs 0 to 23 of SHA-256", selected)
	a.digest = r.sized()
	return a, r.done()
}

// Covers says why these values of PCRs 0–23, of 32 bytes each, are not those that were quoted; nil: they are.
func (a Attest) Covers(values []byte) error {
	if len(values) != count*sha256.Size {
		return fmt.Errorf("%d bytes of PCRs, must be %d", len(values), count*sha256.Size)
	}
	if own := sha256.Sum256(values); !bytes.Equal(own[:], a.digest) {
		return errors.New("the values of the PCRs are not those quoted")
	}
	return nil
}

// Quoted is the value of one PCR, 0 to 23, among 24 of the bank of SHA-256.
func Quoted(values []byte, number int) pcr.Value {
	return pcr.Value{}.WithSHA256([32]byte(values[number*sha256.Size:]))
}
