package vtpm

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
)

// Log is a TPM's boot log in the crypto-agile form of the TCG PC Client Platform Firmware
// Profile 1.06 (section 10): a header, then events with digests in each bank. It is what
// /sys/kernel/security/tpm0/binary_bios_measurements has. Anybody can write one: its events
// count where they replay to the PCRs of a quote.
type Log struct {
	events   []event
	locality byte // from which PCR 0 was started: its first value ends with it
	sizes    map[uint16]int
}

// event is one of a log.
type event struct {
	pcr  int
	kind uint32

	digests map[uint16][]byte // by algorithm
}

// Bounds of a log. Real ones have 300 events and 64 KiB.
const (
	maxEvents = 1 << 14
	maxLog    = 4 << 20
	maxBanks  = 8
)

const noAction = 3 // EV_NO_ACTION: it extends nothing

// algorithms are those whose digests are replayed, by their number in the TCG's registry.
var algorithms = map[string]struct {
	number uint16
	hash   crypto.Hash
}{"sha256": {algSHA256, crypto.SHA256}, "sha384": {algSHA384, crypto.SHA384}}

// ReadLog reads a whole log. Nothing stands behind it.
func ReadLog(b []byte) (*Log, error) {
	if len(b) > maxLog {
		return nil, fmt.Errorf("TPM log: it must have at most %d bytes, not %d", maxLog, len(b))
	}
	l := &Log{}
	r := &logReader{b: b}
	if err := l.header(r); err != nil {
		return nil, fmt.Errorf("TPM log: header: %w", err)
	}
	for len(r.b) > 0 {
		if len(l.events) == maxEvents {
			return nil, fmt.Errorf("TPM log: it must have at most %d events", maxEvents)
		}
		e, data := l.next(r)
		if r.err != nil {
			return nil, fmt.Errorf("TPM log: event %d: %w", len(l.events), r.err)
		}
		if e.kind == noAction && bytes.HasPrefix(data, []byte("StartupLocality\x00")) {
			if len(data) != 17 || e.pcr != 0 || l.locality != 0 {
				return nil, fmt.Errorf("TPM log: event %d: a StartupLocality must be there once at most, of PCR 0, with one byte", len(l.events))
			}
			l.locality = data[16]
		}
		l.events = append(l.events, e)
	}
	return l, nil
}

// header reads the first event, which has the old form: it lists the banks.
func (l *Log) header(r *logReader) error {
	register, kind := r.u32(), r.u32()
	r.take(20) // a digest of SHA-1, zeros
	spec := &logReader{b: r.take(int(r.u32()))}
	if r.err != nil {
		return r.err
	}
	if signature := spec.take(16); spec.err != nil || register != 0 || kind != noAction || string(signature) != "Spec ID Event03\x00" {
		return errors.New("it must be a Spec ID Event03 of PCR 0")
	}
	spec.take(8) // platform class, versions, size of UINTN
	count := spec.u32()
	if spec.err == nil && (count == 0 || count > maxBanks) {
		return fmt.Errorf("it must list 1 to %d banks, not %d", maxBanks, count)
	}
	l.sizes = make(map[uint16]int)
	for range count {
		alg, size := spec.u16(), int(spec.u16())
		if _, twice := l.sizes[alg]; spec.err == nil && (twice || size == 0 || size > maxDigest) {
			return fmt.Errorf("the bank %#x must be there once, with digests of 1 to %d bytes", alg, maxDigest)
		}
		l.sizes[alg] = size
	}
	for _, a := range algorithms {
		if size, there := l.sizes[a.number]; there && size != a.hash.Size() {
			return fmt.Errorf("digests of the bank %#x must have %d bytes, not %d", a.number, a.hash.Size(), size)
		}
	}
	vendor := spec.take(1)
	spec.take(int(vendor[0]))
	if spec.err == nil && len(spec.b) > 0 {
		return fmt.Errorf("%d bytes stand behind it", len(spec.b))
	}
	return spec.err
}

// next reads a TCG_PCR_EVENT2: a digest of each bank, once.
func (l *Log) next(r *logReader) (e event, data []byte) {
	register := r.u32() // an int of 32 bits would hold some below zero
	e = event{pcr: int(register), kind: r.u32(), digests: make(map[uint16][]byte, len(l.sizes))}
	if count := r.u32(); r.err == nil && (int(count) != len(l.sizes) || register >= Count) {
		r.err = fmt.Errorf("it must be of PCR 0 to %d, with %d digests", Count-1, len(l.sizes))
	}
	for range l.sizes {
		alg := r.u16()
		size, known := l.sizes[alg]
		if _, twice := e.digests[alg]; r.err == nil && (!known || twice) {
			r.err = fmt.Errorf("a digest of the bank %#x must be there once, and listed in the header", alg)
		}
		if r.err != nil {
			return e, nil
		}
		e.digests[alg] = r.take(size)
	}
	return e, r.take(int(r.u32()))
}

// Len is the number of events, without the header.
func (l *Log) Len() int { return len(l.events) }

// Digests are those of all events, as a policy writes them (Word): in each bank that can be
// quoted, though only those of the quote's bank are more than the log's word.
func (l *Log) Digests() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, e := range l.events {
			for _, a := range algorithms {
				if d, there := e.digests[a.number]; there && !yield(Word(d)) {
					return
				}
			}
		}
	}
}

// Word is how a policy writes a digest of a bank: SHA-384's is bare.
func Word(digest []byte) string {
	if len(digest) == crypto.SHA256.Size() {
		return "sha256:" + hex.EncodeToString(digest)
	}
	return hex.EncodeToString(digest)
}

// Replay computes the PCRs of a bank. It fails where the log has no such bank.
func (l *Log) Replay(bank string) (values [Count][]byte, err error) {
	a, known := algorithms[bank]
	if _, there := l.sizes[a.number]; !known || !there {
		return values, fmt.Errorf("TPM log: it has no bank of %s", bank)
	}
	for i := range values {
		values[i] = make([]byte, a.hash.Size())
		if i >= 17 && i <= 22 {
			values[i] = bytes.Repeat([]byte{0xFF}, a.hash.Size())
		}
	}
	values[0][a.hash.Size()-1] = l.locality
	for _, e := range l.events {
		if e.kind == noAction {
			continue
		}
		h := a.hash.New()
		h.Write(values[e.pcr])
		h.Write(e.digests[a.number])
		values[e.pcr] = h.Sum(nil)
	}
	return values, nil
}

// logReader takes numbers, little-endian, and bytes off a log.
type logReader struct {
	b   []byte
	err error
}

func (r *logReader) take(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.b)) {
		r.err = fmt.Errorf("it ends after %d bytes of a member of %d", len(r.b), n)
	}
	if r.err != nil {
		return make([]byte, min(max(n, 0), 20)) // no member that is read as a number is longer
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *logReader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }

func (r *logReader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
