package vtpm

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/pcr"
)

// Hash algorithms of banks (TCG Algorithm Registry, TPM_ALG_ID).
const (
	algSHA1   = 0x0004
	algSHA256 = 0x000b
	algSHA384 = 0x000c
	algSHA512 = 0x000d
)

// count of a TPM's PCRs for a PC client.
const count = 24

// selection is TPMS_PCR_SELECTION: PCRs of one bank, PCR n at bit n.
type selection struct {
	alg  uint16
	pcrs uint32
}

func (s selection) has(number int) bool { return s.pcrs>>number&1 == 1 }

func appendSelections(b []byte, list ...selection) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
	for _, s := range list {
		b = binary.BigEndian.AppendUint16(b, s.alg)
		b = append(b, count/8, byte(s.pcrs), byte(s.pcrs>>8), byte(s.pcrs>>16))
	}
	return b
}

// selections reads a TPML_PCR_SELECTION. No bank is in it twice.
func (r *reader) selections() (list []selection) {
	const most = 16 // HASH_COUNT of any TPM is below
	n := r.u32()
	r.must(n <= most, "%d banks", n)
	seen := make(map[uint16]bool)
	for range min(n, most) {
		s := selection{alg: r.u16()}
		bits := r.bytes(int(r.u8()))
		r.must(len(bits) <= 4, "a selection of %d bytes", len(bits))
		for i, b := range bits[:min(4, len(bits))] {
			s.pcrs |= uint32(b) << (8 * i)
		}
		r.must(!seen[s.alg], "bank %#x twice", s.alg)
		seen[s.alg] = true
		list = append(list, s)
	}
	return list
}

// banks are the banks that have this PCR, in the TPM's order.
func (t *TPM) banks(ctx context.Context, number int) (algs []uint16, err error) {
	const capPCRs = 5 // TPM_CAP_PCRS
	parameters := binary.BigEndian.AppendUint32(nil, capPCRs)
	parameters = binary.BigEndian.AppendUint32(parameters, 0)
	parameters = binary.BigEndian.AppendUint32(parameters, 1)
	r, err := t.do(ctx, &command{name: "GetCapability", code: 0x17a, parameters: parameters})
	if err != nil {
		return nil, err
	}
	more, capability := r.u8(), r.u32()
	r.must(more == 0 && capability == capPCRs, "capability %d, more %d", capability, more)
	for _, s := range r.selections() {
		if s.has(number) {
			algs = append(algs, s.alg)
		}
	}
	return algs, r.done()
}

// PCR reads a PCR, 0 to 23, in its banks of SHA-256 and SHA-384, both at one time. A bank that the
// firmware did not allocate is missing from the value.
func (t *TPM) PCR(ctx context.Context, number int) (v pcr.Value, err error) {
	asked := []selection{{algSHA256, 1 << number}, {algSHA384, 1 << number}}
	r, err := t.do(ctx, &command{name: "PCR_Read", code: 0x17e, parameters: appendSelections(nil, asked...)})
	if err != nil {
		return v, err
	}
	r.u32() // the update counter
	given := r.selections()
	values := r.digests()
	for _, s := range given {
		switch {
		case s.pcrs == 0: // the bank does not have it
		case s.pcrs != 1<<number:
			r.must(false, "PCRs %#x of bank %#x", s.pcrs, s.alg)
		case len(values) == 0:
			r.must(false, "no value of bank %#x", s.alg)
		case s.alg == algSHA256 && len(values[0]) == sha256.Size:
			v, values = v.WithSHA256([32]byte(values[0])), values[1:]
		case s.alg == algSHA384 && len(values[0]) == sha512.Size384:
			v, values = v.WithSHA384([48]byte(values[0])), values[1:]
		default:
			r.must(false, "a value of %d bytes in bank %#x", len(values[0]), s.alg)
		}
	}
	r.must(len(values) == 0, "%d values too many", len(values))
	if err := r.done(); err != nil {
		return pcr.Value{}, err
	}
	return v, nil
}

// digests reads a TPML_DIGEST: at most 8 values.
func (r *reader) digests() (values [][]byte) {
	const most = 8
	n := r.u32()
	r.must(n <= most, "%d values", n)
	for range min(n, most) {
		values = append(values, r.sized())
	}
	if r.err != nil {
		return nil
	}
	return values
}

// sha256Values reads PCRs 0–23 of the bank of SHA-256: 24 values of 32 bytes. They are not read
// at one time: a quote's digest tells whether they belong together.
func (t *TPM) sha256Values(ctx context.Context) (all []byte, err error) {
	for first := 0; first < count; first += 8 {
		asked := selection{algSHA256, 0xff << first}
		r, err := t.do(ctx, &command{name: "PCR_Read", code: 0x17e, parameters: appendSelections(nil, asked)})
		if err != nil {
			return nil, err
		}
		r.u32()
		given, values := r.selections(), r.digests()
		r.must(len(given) == 1 && given[0] == asked && len(values) == 8, "%d values of PCRs %d to %d", len(values), first, first+7)
		for _, value := range values {
			r.must(len(value) == sha256.Size, "a value of %d bytes", len(value))
			all = append(all, value...)
		}
		if err := r.done(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Extend extends a PCR by an event in every bank that has it, in one command: an idle bank
// could be filled with another history. Banks of SHA-1 and SHA-512 get the bank's hash
// of the event's digest, as package pcr has it. A bank of any other hash is left idle:
// this package reads and quotes none.
func (t *TPM) Extend(ctx context.Context, number int, event canonical.Digest) error {
	algs, err := t.banks(ctx, number)
	if err != nil {
		return err
	}
	var digests []byte
	n := uint32(0)
	for _, alg := range algs {
		var own []byte
		switch alg {
		case algSHA1:
			sum := sha1.Sum(event[:])
			own = sum[:]
		case algSHA256:
			sum := sha256.Sum256(event[:])
			own = sum[:]
		case algSHA384:
			own = event[:]
		case algSHA512:
			sum := sha512.Sum512(event[:])
			own = sum[:]
		default:
			continue
		}
		digests = append(binary.BigEndian.AppendUint16(digests, alg), own...)
		n++
	}
	if n == 0 {
		return fmt.Errorf("PCR %d: %w", number, errNoBank)
	}
	parameters := append(binary.BigEndian.AppendUint32(nil, n), digests...)
	r, err := t.do(ctx, &command{name: "PCR_Extend", code: 0x182, handles: []uint32{uint32(number)}, authorized: true, parameters: parameters})
	if err != nil {
		return err
	}
	return r.done()
}

var errNoBank = errors.New("no bank of the TPM has it")
