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
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/cima-project/cima/logs/alg"
)

const padLen = 8 // bytes of one value at an event's place that end a log

// Registers are the values of RTMR0–3 that a replay arrives at.
type Registers = [4][48]byte

// Log is a boot log in the TCG2 crypto-agile form: TCG PC Client Platform
// Firmware Profile 1.06 section 10, with the measurement registers of the
// UEFI 2.10 confidential computing protocol in place of PCRs. AAEL records
// appended behind the boot's own events are events like them.
type Log struct {
	header header
	raw    []byte // exactly the log, no padding
	count  int
}

// Event is one event of a boot log.
type Event struct {
	MR     uint32   // measurement register: 0 = MRTD, 1–4 = RTMR0–3
	Type   uint32   // TCG event type, EvSeparator and so on; unknown ones are kept
	Digest [48]byte // the SHA-384 digest: what extends the register
	Data   []byte   // event data; shares the log's memory

	digests []byte // count × (u16 algorithm, digest), as read
	noSHA   bool   // no SHA-384 digest among them
	sizes   *header
}

// Parse checks a whole boot log, up to its padding (eight bytes or
// all the rest 0xFF, as OVMF leaves it, or 0x00, as td-shim does). It keeps b,
// which must not change afterwards.
func Parse(b []byte) (*Log, error) {
	log := &Log{}
	if err := log.read(b, nil); err != nil {
		return nil, fmt.Errorf("boot log: %w", err)
	}
	return log, nil
}

// read walks over the whole log once, and replays it where registers are
// given.
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

// Trim returns b up to its padding: the log proper, which evidence
// carries.
func Trim(b []byte) ([]byte, error) {
	log, err := Parse(b)
	if err != nil {
		return nil, err
	}
	return log.raw, nil
}

// Len is the number of events, the spec-id header not counted.
func (l *Log) Len() int { return l.count }

// Bytes is the log without its padding, header included.
func (l *Log) Bytes() []byte { return l.raw }

// UnverifiedEvents are the events as they stand in the log, by number. Nothing
// says that any of them happened before a replay agrees with verified registers.
func (l *Log) UnverifiedEvents() iter.Seq2[int, Event] {
	return func(yield func(int, Event) bool) {
		var e Event
		at := l.header.size
		for i := range l.count {
			n, _ := l.header.event(l.raw[at:], &e) // ParseBootLog saw every event already
			at += n
			if !yield(i, e) {
				return
			}
		}
	}
}

// padding says whether no event stands at the head of b. Eight zero bytes
// would be an event of MRTD of type 0 too; nobody writes one, and Trustee
// reads them as the end.
func padding(b []byte) bool {
	if len(b) >= padLen {
		head := binary.LittleEndian.Uint64(b)
		return head == 0 || head == 1<<64-1
	}
	return bytes.Count(b, []byte{0xFF}) == len(b) || bytes.Count(b, []byte{0}) == len(b)
}

// event reads one TCG_PCR_EVENT2 at the head of b into e and returns its
// length.
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
			return 0, fmt.Errorf("digest of algorithm %s, whose size the header doesn't declare", id)
		}
		if at += 2; len(b)-at < size {
			return 0, fmt.Errorf("cut off in a digest of %s", id)
		}
		if id == alg.SHA384 {
			if !e.noSHA {
				return 0, fmt.Errorf("two SHA-384 digests: which one extended the register?")
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
		return 0, fmt.Errorf("announces %d bytes of data, %d are there", size, len(b)-at)
	}
	end := at + int(size)
	e.Data = b[at:end:end]
	return end, nil
}

// Digests are all digests of an event, in the log's order.
func (e *Event) Digests() iter.Seq2[alg.ID, []byte] {
	return func(yield func(alg.ID, []byte) bool) {
		if e.sizes == nil { // made here, not read
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

// DigestCoversData says whether the digest is SHA-384 of the event's data. Where
// it is not, a replay that agrees proves nothing of the data: firmware hashes
// images and tables and writes their names.
func (e *Event) DigestCoversData() bool { return sha512.Sum384(e.Data) == e.Digest }
