package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// TagAAEL is "AAEL" in memory "LEAA": the id of Confidential Containers' tagged events.
	TagAAEL = 0x4141454C
	// TagHeaderLen is the length in bytes of a tagged event's header
	// (TCG_PCClientTaggedEvent): u32 id, u32 length of the data, both little-endian.
	TagHeaderLen = 8
)

// AAEL is an entry of the attestation agent event log of Confidential Containers: text
// in a TCG tagged event. CIMA's own events are AAEL entries of the domain "cima", which
// logs.ParseEvent reads strictly.
type AAEL struct{ Domain, Operation, Content string }

// ParseAAEL reads the data of a tagged event: u32 id TagAAEL, u32 length of the text
// (both little-endian), then "<domain> <operation> <content>". Like Trustee, it refuses
// text without two spaces.
func ParseAAEL(data []byte) (AAEL, error) {
	if len(data) < TagHeaderLen || binary.LittleEndian.Uint32(data) != TagAAEL {
		return AAEL{}, errors.New("not an AAEL event")
	}
	text := data[TagHeaderLen:]
	if n := binary.LittleEndian.Uint32(data[4:]); uint64(n) != uint64(len(text)) {
		return AAEL{}, fmt.Errorf("AAEL event announces %d bytes, but %d are left", n, len(text))
	}
	domain, rest, ok := bytes.Cut(text, []byte(" "))
	operation, content, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 {
		return AAEL{}, errors.New("an AAEL event must have the form \"domain operation content\"")
	}
	return AAEL{string(domain), string(operation), string(content)}, nil
}

// RedactedData is the data of a record that shows only its digest: a tagged event
// without text, whose id is not AAEL's. (Trustee parses AAEL, and refuses a whole log
// in which an event has no data.) The digest doesn't match these data; Trustee
// reports that and goes on.
const RedactedData = "CIRD\x00\x00\x00\x00"

// Redacted reports whether the record shows only its digest ([RedactedData]).
func (e *Event) Redacted() bool {
	return e.Type == EvEventTag && string(e.Data) == RedactedData
}

// logEnd ends a log for Trustee, as OVMF's padding does.
const logEnd = "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"

// TrusteeLog joins a boot log, with or without padding, and records in its form
// ([AppendEvent]) to the cc_eventlog of Trustee's TDX evidence. It fails where [Parse]
// fails for the boot log.
func TrusteeLog(bootLog, records []byte) ([]byte, error) {
	log, err := Trim(bootLog)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(log)+len(records)+len(logEnd))
	b = append(append(b, log...), records...)
	return append(b, logEnd...), nil
}
