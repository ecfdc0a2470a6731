package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	TagAAEL      = 0x4141454C // "AAEL": the TCG tagged event id of Confidential Containers
	TagHeaderLen = 8          // bytes: u32 tag, u32 length of the data, both little-endian
)

// AAEL is an entry of the Confidential Containers' attestation agent event
// log: text in a TCG tagged event. CIMA's own events are AAEL entries of the domain
// "cima"; ParseEvent reads those, and strictly.
type AAEL struct{ Domain, Operation, Content string }

// ParseAAEL reads the data of a tagged event: u32 tag "AAEL", u32 length
// (both little-endian), then "<domain> <operation> <content>". As Trustee does, it
// refuses text without its two spaces.
func ParseAAEL(data []byte) (AAEL, error) {
	if len(data) < TagHeaderLen || binary.LittleEndian.Uint32(data) != TagAAEL {
		return AAEL{}, errors.New("not an AAEL event")
	}
	text := data[TagHeaderLen:]
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

// RedactedData is the data of a record that shows only its digest: a tagged event
// (u32 tag, u32 length 0) that is no AAEL. Trustee parses AAEL, and refuses the
// whole log because of an event without data. The digest doesn't match the data:
// Trustee reports that and goes on.
const RedactedData = "CIRD\x00\x00\x00\x00"

// Redacted reports whether the record shows only its digest ([RedactedData]).
func (e *Event) Redacted() bool {
	return e.Type == EvEventTag && string(e.Data) == RedactedData
}

// logEnd ends a log for Trustee, as OVMF's padding would.
const logEnd = "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"

// TrusteeLog joins a boot log (padding or not) and records of the runtime log
// to the cc_eventlog of Trustee's TDX evidence.
func TrusteeLog(bootLog, records []byte) ([]byte, error) {
	log, err := Trim(bootLog)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(log)+len(records)+len(logEnd))
	b = append(append(b, log...), records...)
	return append(b, logEnd...), nil
}
