// Package logs answers: what does CIMA's runtime log say, in its own form and in the
// TCG's (CEL)?
//
// It writes and reads the runtime log's events, in one canonical form each, the files
// that hold them, and the TCG's Canonical Event Log. It does no I/O beyond the reader that
// it is given.
//
// A log proves nothing by itself: anybody can write one. What a log says counts only
// after its replay equals a register of a verified quote. So what yields records
// of a log has "Unverified" in its name.
package logs

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/json/jsontext"
	"fmt"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
)

// domain is the first word of every event of the runtime log.
const domain = "cima"

// Operations of the runtime log (cima-evidence(7), Operations).
const (
	OpStart   = "start"
	OpPolicy  = "policy"
	OpSeal    = "seal"
	OpSystem  = "system"
	OpPower   = "power"
	OpLaunch  = "launch"
	OpMounted = "mounted"
	OpImage   = "image"
	OpExec    = "exec"
	OpExtend  = "extend"
	OpExit    = "exit"
	OpMissed  = "missed"
	OpIMA     = "ima"
)

// Public reports whether every container sees events of this operation as a whole.
func Public(operation string) bool {
	switch operation {
	case OpStart, OpPolicy, OpSeal, OpSystem, OpPower, OpMissed, OpIMA:
		return true
	}
	return false
}

const (
	// MaxEvent is the most bytes of one event, with its tag header.
	MaxEvent = 256 << 10

	maxContainerID = 512 // bytes in JSON, with the quotes
)

// Content is the JSON content of a runtime event (cima-evidence(7), RUNTIME LOG).
type Content struct {
	// Container is the ID of the container that the event is about, after "uid/" where
	// its record or cgroup belongs to a user. It is empty in public events.
	Container string `json:"container,omitempty"`

	// Measured is an object with one member, named after the operation. Only exit
	// events have none.
	Measured jsontext.Value `json:"measured,omitzero"`

	// Salt is 16 random bytes in standard base64, so that other containers can't guess
	// an event from its digest. It is empty in public events.
	Salt string `json:"salt,omitempty"`
}

// Event is one event of the runtime log.
type Event struct {
	Operation string
	Content

	raw []byte
}

// NewEvent writes an event in its canonical form: a TCG tagged event in the AAEL form of
// Confidential Containers (u32 boot.TagAAEL, u32 length of the text, both little-endian,
// then the text "cima <operation> <content as RFC 8785 JSON>"). It fails where
// [ParseEvent] would refuse the event.
func NewEvent(operation string, content Content) (Event, error) {
	text, err := canonical.Marshal(content)
	if err != nil {
		return Event{}, fmt.Errorf("%s event: %w", operation, err)
	}
	n := len(domain) + 1 + len(operation) + 1 + len(text)
	raw := make([]byte, 0, boot.TagHeaderLen+n)
	raw = binary.LittleEndian.AppendUint32(raw, boot.TagAAEL)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(n))
	raw = append(raw, domain+" "+operation+" "...)
	raw = append(raw, text...)
	e, err := ParseEvent(raw)
	if err != nil {
		return Event{}, err
	}
	if e.Container != content.Container {
		return Event{}, fmt.Errorf("container ID %q must be UTF-8", content.Container)
	}
	return e, nil
}

// Bytes are the canonical bytes, with the tag header. They must not be changed.
func (e Event) Bytes() []byte { return e.raw }

// Digest is the SHA-384 of the canonical bytes, which extends RTMR3.
func (e Event) Digest() [48]byte { return sha512.Sum384(e.raw) }

// MeasuredDigest is the SHA-384 of the canonical JSON of Measured, which extends a container
// register or the public register. It is the same on every machine, because it covers
// neither container ID nor salt. It is false where nothing is measured.
func (e Event) MeasuredDigest() ([48]byte, bool) {
	if e.Measured == nil {
		return [48]byte{}, false
	}
	return sha512.Sum384(e.Measured), true // ParseEvent has checked that it is canonical
}

// Body is the value of the only member of Measured, such as an [ExecBody] in JSON; nil where
// nothing is measured.
func (e Event) Body() jsontext.Value {
	if e.Measured == nil {
		return nil
	}
	return e.Measured[len(`{"":`)+len(e.Operation) : len(e.Measured)-1]
}
