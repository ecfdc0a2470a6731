// Package boot answers: what does the boot log say, and which registers does it explain?
//
// It reads the firmware's log (CCEL) with what is appended to it, replays it to
// RTMR0–3, and shows what its events say. It does no I/O.
//
// A log proves nothing by itself: anybody can write one. Its events count only
// after its replay equals registers of a verified quote, and even then only the
// digests are proved: event data count where the digest covers them
// ([Event.DigestCoversData]). So what yields events has "Unverified" in its name, and
// "Replay" computes what registers would hold, not what they hold.
package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/canonical"
)

// padLen is how many bytes of one value (0xFF or 0x00) end a log where an event could begin.
const padLen = 8

// Registers are the values of RTMR0–3, in this order, that a replay computes.
type Registers = [4]canonical.Digest

// Log is a boot log in the crypto-agile form of the TCG PC Client Platform Firmware
// Profile 1.06 (section 10), with the measurement registers of the UEFI 2.10
// confidential computing protocol (section 38) instead of PCRs. Records that other
// software appends, such as AAEL's, are events like those of the boot.
type Log struct {
	header header
	raw    []byte // the log without its padding
	count  int
}

// Event is one event of a boot log.
type Event struct {
	MR     uint32   // measurement register: 0 = MRTD, 1–4 = RTMR0–3
	Type   uint32   // TCG event type, such as EvSeparator; unknown types are kept
	Digest [48]byte // the SHA-384 digest, which extends the register
	Data   []byte   // event data, in the log's own memory

	digests []byte  // as read: u16 algorithm and digest, repeated
	noSHA   bool    // no digest is SHA-384
	sizes   *header // nil for an event that was not read from a log
}

// Parse reads a whole boot log up to its padding: eight bytes, or all that is left, of
// 0xFF (OVMF) or 0x00 (td-shim). All numbers are little-endian. The Log keeps b, which
// must not change afterwards. The error names the event and the byte where it begins.
func Parse(b []byte) (*Log, error) {
	log := &Log{}
	if err := log.read(b, nil); err != nil {
		return nil, fmt.Errorf("boot log: %w", err)
	}
	return log, nil
}

// read reads the whole log once, and replays it if registers is not nil.
func (l *Log) read(b []byte, registers *replay) error {
	if err := l.header.parse(b); err != nil {
		return err
	}
	at := l.header.size
	var e Event
	for !padding(b[at:]) {
		n, err := l.header.event(b[at:], &e)
		if err == nil && registers != nil {
			err = registers.extend(&e)
		}
		if err != nil {
			return fmt.Errorf("event %d at byte %d: %w", l.count, at, err)
		}
		at += n
		l.count++
	}
	l.raw = b[:at:at]
	return nil
}

// Trim returns b without its padding: the log as evidence carries it. It fails where
// [Parse] fails.
func Trim(b []byte) ([]byte, error) {
	log, err := Parse(b)
	if err != nil {
		return nil, err
	}
	return log.raw, nil
}

// Len is the number of events, without the spec-id header.
func (l *Log) Len() int { return l.count }

// Bytes is the log without its padding, with its header. It is the log's own memory.
func (l *Log) Bytes() []byte { return l.raw }

// UnverifiedEvents yields the events with their numbers, from 0. No event is known to
// have happened until a replay agrees with registers of a verified quote.
func (l *Log) UnverifiedEvents() iter.Seq2[int, Event] {
	return func(yield func(int, Event) bool) {
		var e Event
		at := l.header.size
		for i := range l.count {
			n, _ := l.header.event(l.raw[at:], &e) // Parse has read every event already
			at += n
			if !yield(i, e) {
				return
			}
		}
	}
}

// padding reports whether b begins with padding instead of an event. Eight zero bytes
// could also begin an event of type 0 on MRTD: no firmware writes one, and Trustee reads
// them as the end, too.
func padding(b []byte) bool {
	if len(b) >= padLen {
		head := binary.LittleEndian.Uint64(b)
		return head == 0 || head == 1<<64-1
	}
	return bytes.Count(b, []byte{0xFF}) == len(b) || bytes.Count(b, []byte{0}) == len(b)
}

// event reads the TCG_PCR_EVENT2 (TCG PFP 1.06 section 10.2.2) at the head of b into e and
// returns its length: u32 register, u32 type, u32 number of digests, digests (u16
// algorithm, digest), u32 length of the data, data; little-endian.
func (h *header) event(b []byte, e *Event) (int, error) {
	if len(b) < 12 {
		return 0, fmt.Errorf("cut off after %d bytes", len(b))
	}
	e.MR, e.Type = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	count := binary.LittleEndian.Uint32(b[8:])
	e.noSHA, e.sizes = true, h
	at := 12
	for i := uint32(0); i < count; i++ {
		if len(b)-at < 2 {
			return 0, fmt.Errorf("cut off in its list of %d digests", count)
		}
		id := alg.ID(binary.LittleEndian.Uint16(b[at:]))
		size := h.digestSize(id)
		if size < 0 {
			return 0, fmt.Errorf("digest of algorithm %s: its size must be declared in the header", id)
		}
		if at += 2; len(b)-at < size {
			return 0, fmt.Errorf("cut off in a digest of %s", id)
		}
		if id == alg.SHA384 {
			if !e.noSHA {
				return 0, fmt.Errorf("two SHA-384 digests: there must be one, which extended the register")
			}
			e.noSHA, e.Digest = false, [48]byte(b[at:])
		}
		at += size
	}
	if e.noSHA {
		e.Digest = [48]byte{}
	}
	e.digests = b[12:at:at]
	if len(b)-at < 4 {
		return 0, fmt.Errorf("cut off before its data")
	}
	size := binary.LittleEndian.Uint32(b[at:])
	if at += 4; uint64(size) > uint64(len(b)-at) {
		return 0, fmt.Errorf("announces %d bytes of data, but %d are left", size, len(b)-at)
	}
	end := at + int(size)
	e.Data = b[at:end:end]
	return end, nil
}

// Digests yields all digests of an event, in the log's order, in the log's own memory.
func (e *Event) Digests() iter.Seq2[alg.ID, []byte] {
	return func(yield func(alg.ID, []byte) bool) {
		if e.sizes == nil { // made by this program, not read from a log
			yield(alg.SHA384, e.Digest[:])
			return
		}
		for b := e.digests; len(b) >= 2; {
			id := alg.ID(binary.LittleEndian.Uint16(b))
			n := 2 + e.sizes.digestSize(id)
			if !yield(id, b[2:n]) {
				return
			}
			b = b[n:]
		}
	}
}
