package ima

import (
	"bytes"
	"fmt"
	"io"
	"iter"

	"github.com/cima-project/cima/logs/alg"
)

// Register computes a register that the kernel extends for IMA: what it holds if the log
// is true.
type Register struct {
	alg    alg.ID
	covers func(pcr uint32) bool
	buf    [128]byte // the value, then the digest that extends it
}

// NewPCR returns a TPM's register of the bank alg, from zero. IMA's index is 10. Where the
// log's template hashes are of another algorithm, they are recomputed from the
// fields, as Linux has done since 5.8.
func NewPCR(alg alg.ID, index uint32) *Register {
	return &Register{alg: alg, covers: func(pcr uint32) bool { return pcr == index }}
}

// NewRTMR2 returns RTMR2 of kernels that extend it for IMA, from the value that the replay
// of the boot log gives. It covers entries whose register is 2 or one of the PCRs that
// map to RTMR2 (8–15; UEFI 2.10 section 38.4.1).
func NewRTMR2(booted [48]byte) *Register {
	covers := func(pcr uint32) bool { return pcr == 2 || pcr >= 8 && pcr <= 15 }
	g := &Register{alg: alg.SHA384, covers: covers}
	copy(g.buf[:], booted[:])
	return g
}

// Value is a copy of the register's value, in as many bytes as its bank's digests have.
func (g *Register) Value() []byte { return bytes.Clone(g.buf[:g.alg.Size()]) }

// Extend extends the register as the kernel did for this entry, if it covers the entry. It
// fails where the digest of its bank can't be recomputed from the entry's fields.
func (g *Register) Extend(e *Entry) error {
	if !g.covers(e.PCR) {
		return nil
	}
	digest, err := g.digest(e)
	if err != nil {
		return err
	}
	g.extend(digest)
	return nil
}

// ExtendDigest extends RTMR2, or a PCR of a SHA-384 bank, with the digest of an entry that
// is not known otherwise.
func (g *Register) ExtendDigest(digest [48]byte) {
	g.extend(digest[:])
}

func (g *Register) extend(digest []byte) {
	size := g.alg.Size()
	copy(g.buf[size:2*size], digest)
	g.alg.Sum(g.buf[:0], g.buf[:2*size])
}

// digest is what an entry extends the register with. It is valid until the next call.
func (g *Register) digest(e *Entry) ([]byte, error) {
	size := g.alg.Size()
	digest := g.buf[size : 2*size]
	switch {
	case e.Violation:
		for i := range digest {
			digest[i] = 0xFF
		}
	case e.Alg == g.alg:
		copy(digest, e.hash[:])
	default:
		data, err := e.templateData()
		if err != nil {
			return nil, fmt.Errorf("%s of an entry with a %s template hash: %w", g.alg, e.Alg, err)
		}
		g.alg.Sum(digest[:0], data)
	}
	return digest, nil
}

// RTMR2Digest is what an entry extends RTMR2 with, on kernels that extend it for IMA; false
// where the entry's register doesn't map to RTMR2. It fails where [Register.Extend]
// fails.
func (e *Entry) RTMR2Digest() (digest [48]byte, ok bool, err error) {
	g := NewRTMR2([48]byte{})
	if !g.covers(e.PCR) {
		return digest, false, nil
	}
	b, err := g.digest(e)
	if err != nil {
		return digest, false, err
	}
	return [48]byte(b), true, nil
}

// UnverifiedEntries yields the log's entries, each valid until the next one. It ends at the
// log's end, or after the first error ([Reader.Next]). No entry is known to be
// true until a replay agrees with a register of a verified quote.
func (r *Reader) UnverifiedEntries() iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		for {
			e, err := r.Next()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Replay extends the registers with all entries that are left. The error names the entry.
func (r *Reader) Replay(registers ...*Register) error {
	for e, err := range r.UnverifiedEntries() {
		if err != nil {
			return fmt.Errorf("IMA log: %w", err)
		}
		for _, g := range registers {
			if err := g.Extend(e); err != nil {
				return fmt.Errorf("IMA log: entry %d: %w", r.Entries-1, err)
			}
		}
	}
	return nil
}
