// Package vtpm answers: what did a TPM inside the TEE sign?
//
// On Azure the registers of a confidential VM are PCRs of a TPM in the paravisor. The
// hardware's quote is over a JSON text that names the TPM's key (AK), and that key signs
// quotes over claims and PCRs. The package reads the text and the quote (TPMS_ATTEST, TPM
// 2.0 Library, part 2, section 10.12.8), each in one form, and checks the signature and what
// it is over. That the key signs only what the TPM made is the paravisor's promise: it is
// worth what the paravisor is, whose measurement a policy must pin.
package vtpm

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// Constants of the TPM 2.0 Library, part 2.
const (
	generated = 0xFF544347 // TPM_GENERATED_VALUE
	quoted    = 0x8018     // TPM_ST_ATTEST_QUOTE
	rsassa    = 0x0014     // TPM_ALG_RSASSA
	algSHA256 = 0x000B     // TPM_ALG_SHA256
	algSHA384 = 0x000C     // TPM_ALG_SHA384
)

// Count is how many PCRs a quote is over: all of a PC's.
const Count = 24

// Bounds of members, in bytes.
const (
	maxName   = 2 + sha512.Size // TPM2B_NAME: an algorithm and its digest
	maxData   = 2 + sha512.Size // TPM2B_DATA: the same
	maxDigest = sha512.Size
)

// Quote is a TPM's quote over PCRs 0–23 of one bank, with their values. It was read; only
// Verify checks its signature.
type Quote struct {
	Data []byte // qualifying data: what whoever asked gave
	Bank string // "sha256" or "sha384"

	values    [Count][]byte
	digest    []byte // over all values, by the key's hash
	message   []byte
	signature []byte
}

// Parse reads a quote: TPMS_ATTEST, TPMT_SIGNATURE, and the values of PCRs 0–23 one behind
// the other. Each has one form, and nothing behind it.
func Parse(message, signature, pcrs []byte) (*Quote, error) {
	q := &Quote{message: message}
	if err := q.readAttest(); err != nil {
		return nil, fmt.Errorf("TPM quote: %w", err)
	}
	if err := q.readSignature(signature); err != nil {
		return nil, fmt.Errorf("TPM quote's signature: %w", err)
	}
	size := map[string]int{"sha256": sha256.Size, "sha384": sha512.Size384}[q.Bank]
	if len(pcrs) != Count*size {
		return nil, fmt.Errorf("values of PCRs must have %d bytes in the bank of %s, not %d", Count*size, q.Bank, len(pcrs))
	}
	for i := range q.values {
		q.values[i] = pcrs[i*size:][:size:size]
	}
	return q, nil
}

func (q *Quote) readAttest() error {
	r := reader{q.message, nil}
	if magic, kind := r.u32(), r.u16(); r.err == nil && (magic != generated || kind != quoted) {
		return fmt.Errorf("it must begin with %#x and be of the type %#x, not with %#x and of %#x", uint32(generated), quoted, magic, kind)
	}
	r.sized(maxName)
	q.Data = r.sized(maxData)
	r.take(8) // clock, in ms
	r.take(8) // how often it was started anew, and resumed since
	if safe := r.take(1); r.err == nil && safe[0] > 1 {
		return fmt.Errorf("its clock is safe or not, and not %d", safe[0])
	}
	r.take(8) // the firmware's version, as its maker counts
	selections, bank := r.u32(), r.u16()
	if r.err == nil && selections != 1 {
		return fmt.Errorf("it must be over one bank of PCRs, not %d", selections)
	}
	switch bank {
	case algSHA256:
		q.Bank = "sha256"
	case algSHA384:
		q.Bank = "sha384"
	default:
		if r.err == nil {
			return fmt.Errorf("it must be over the bank of SHA-256 or SHA-384, not of the algorithm %#x", bank)
		}
	}
	size := r.take(1)
	selected := r.take(Count / 8)
	if r.err == nil && (size[0] != Count/8 || !bytes.Equal(selected, []byte{0xFF, 0xFF, 0xFF})) {
		return fmt.Errorf("it must be over all of PCRs 0 to %d, not %x", Count-1, selected) // a bank that isn't there has none
	}
	q.digest = r.sized(maxDigest)
	return r.end()
}

func (q *Quote) readSignature(b []byte) error {
	r := reader{b, nil}
	if scheme, hash := r.u16(), r.u16(); r.err == nil && (scheme != rsassa || hash != algSHA256) {
		return fmt.Errorf("it must be RSASSA (%#x) with SHA-256 (%#x), not %#x with %#x", rsassa, algSHA256, scheme, hash)
	}
	q.signature = r.sized(keyBits / 8)
	return r.end()
}

// Verify checks that the key signed the quote, and that the values are those quoted.
func (q *Quote) Verify(key *rsa.PublicKey) error {
	sum := sha256.Sum256(q.message)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], q.signature); err != nil {
		return errors.New("the TPM's quote is not signed by the key that the paravisor names")
	}
	if own := sha256.Sum256(bytes.Join(q.values[:], nil)); !bytes.Equal(own[:], q.digest) {
		return errors.New("the values of the PCRs are not those that the TPM quoted")
	}
	return nil
}

// PCR is the value of a PCR, 0 to 23, in the quote's bank.
func (q *Quote) PCR(number int) []byte { return q.values[number] }

// DataFor is the qualifying data of a quote over report data: a TPM takes no 64 bytes.
func DataFor(reportData [64]byte) []byte {
	sum := sha512.Sum384(reportData[:])
	return sum[:]
}

// reader takes numbers, big-endian, and bytes off a structure of a TPM.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = fmt.Errorf("it ends after %d bytes of a member of %d", len(r.b), n)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }

func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

// sized takes a TPM2B: a size, and that many bytes.
func (r *reader) sized(most int) []byte {
	n := int(r.u16())
	if r.err == nil && n > most {
		r.err = fmt.Errorf("a member has %d bytes, and must have at most %d", n, most)
	}
	if r.err != nil {
		return nil
	}
	return r.take(n)
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%d bytes stand behind it", len(r.b))
	}
	return r.err
}
