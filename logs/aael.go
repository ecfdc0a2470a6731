package logs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// AAEL is an entry of the Confidential Containers' attestation agent event
// log: text in a TCG tagged event. CIMA's own events are AAEL entries of the domain
// "cima"; ParseEvent reads those, and strictly.
type AAEL struct{ Domain, Operation, Content string }

// ParseAAEL reads the data of a tagged event: u32 tag "AAEL", u32 length
// (both little-endian), then "<domain> <operation> <content>". As Trustee does, it
// refuses text without its two spaces.
func ParseAAEL(data []byte) (AAEL, error) {
	if len(data) < tagHeaderLen || binary.LittleEndian.Uint32(data) != tagAAEL {
		return AAEL{}, errors.New("not an AAEL event")
	}
	text := data[tagHeaderLen:]
	if n := binary.LittleEndian.Uint32(data[4:]); uint64(n) != uint64(len(text)) {
		return AAEL{}, fmt.Errorf("AAEL event announces %d bytes and has %d", n, len(text))
	}
	domain, rest, ok := bytes.Cut(text, []byte(" "))
	operation, content, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 {
		return AAEL{}, errors.New("AAEL event is not of the form \"domain operation content\"")
	}
	return AAEL{string(domain), string(operation), string(content)}, nil
}

// Data writes the tagged event; its SHA-384 is the event's digest.
func (a AAEL) Data() ([]byte, error) {
	if strings.ContainsAny(a.Domain+a.Operation, " \t\r\n\v\f") || a.Domain == "" || a.Operation == "" {
		return nil, fmt.Errorf("AAEL domain %q and operation %q are words", a.Domain, a.Operation)
	}
	if strings.ContainsRune(a.Content, '\n') {
		return nil, errors.New("AAEL content holds a line feed")
	}
	text := a.Domain + " " + a.Operation + " " + a.Content
	b := binary.LittleEndian.AppendUint32(nil, tagAAEL)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(b, text...), nil
}

// rtmr3 is RTMR3 as boot logs number it.
const rtmr3 = 4

// AppendAAELRecord appends an event of the runtime log as a record of a boot
// log (TCG_PCR_EVENT2 on RTMR3), as Trustee reads it behind the CCEL.
func AppendAAELRecord(b []byte, e Event) []byte {
	return AppendBootEvent(b, BootEvent{MR: rtmr3, Type: EvEventTag, Digest: e.Digest(), Data: e.Bytes()})
}

// redacted is the data of a record that shows only its digest: a tagged event
// that is no AAEL, for Trustee refuses a whole log over an empty one.
var redacted = []byte("CIRD\x00\x00\x00\x00")

// AppendRedactedRecord appends somebody else's event, of which only the
// digest is shown. The digest doesn't match the data, which Trustee reports
// but allows; the log replays all the same.
func AppendRedactedRecord(b []byte, digest [48]byte) []byte {
	return AppendBootEvent(b, BootEvent{MR: rtmr3, Type: EvEventTag, Digest: digest, Data: redacted})
}

// Redacted says whether a record shows only its digest (AppendRedactedRecord).
func (e *BootEvent) Redacted() bool { return e.Type == EvEventTag && bytes.Equal(e.Data, redacted) }

// logEnd ends a log for Trustee, as OVMF's padding would.
const logEnd = "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"

// TrusteeLog joins a boot log (padding or not) and records of the runtime log
// to the cc_eventlog of Trustee's TDX evidence.
func TrusteeLog(bootLog, records []byte) ([]byte, error) {
	log, err := TrimBootLog(bootLog)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(log)+len(records)+len(logEnd))
	b = append(append(b, log...), records...)
	return append(b, logEnd...), nil
}
