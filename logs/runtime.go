// Package logs answers: what does CIMA's runtime log say?
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
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
)

// domain is the first word of every event of the runtime log.
const domain = "cima"

// Operations of the runtime log (cima-evidence(7), OPERATIONS).
const (
	OpStart  = "start"
	OpPolicy = "policy"
	OpSeal   = "seal"
	OpSystem = "system"
	OpPower  = "power"
	OpLaunch = "launch"
	OpImage  = "image"
	OpExec   = "exec"
	OpExtend = "extend"
	OpExit   = "exit"
	OpMissed = "missed"
	OpIMA    = "ima"
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
	Measured json.RawMessage `json:"measured,omitzero"`

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

// ParseEvent reads the canonical bytes of one event (see [NewEvent]) and refuses any other
// form, so that an event has exactly one digest. It keeps a copy of raw.
func ParseEvent(raw []byte) (Event, error) {
	if len(raw) < boot.TagHeaderLen || len(raw) > MaxEvent {
		return Event{}, fmt.Errorf("a runtime event must have %d to %d bytes, not %d", boot.TagHeaderLen, MaxEvent, len(raw))
	}
	if tag := binary.LittleEndian.Uint32(raw); tag != boot.TagAAEL {
		return Event{}, fmt.Errorf("the tag is %#08x: it must be AAEL's, %#08x", tag, boot.TagAAEL)
	}
	if n := binary.LittleEndian.Uint32(raw[4:]); uint64(n) != uint64(len(raw)-boot.TagHeaderLen) {
		return Event{}, fmt.Errorf("event announces %d bytes, but has %d", n, len(raw)-boot.TagHeaderLen)
	}
	e := Event{raw: bytes.Clone(raw)}
	word, rest, ok := bytes.Cut(e.raw[boot.TagHeaderLen:], []byte(" "))
	if !ok || string(word) != domain {
		return Event{}, fmt.Errorf("an event must be of the domain %q", domain)
	}
	operation, content, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return Event{}, errors.New("an event must have content")
	}
	if !known(string(operation)) {
		return Event{}, fmt.Errorf("unknown operation %.32q", operation)
	}
	e.Operation = string(operation)
	measures, err := e.read(content)
	if err != nil {
		return Event{}, fmt.Errorf("%s event: %w", e.Operation, err)
	}
	if err := e.check(measures); err != nil {
		return Event{}, err
	}
	return e, nil
}

// maxDepth bounds the nesting of an event's content.
const maxDepth = 128

// read reads the members of content, which must be canonical. It reports whether measured
// is an object with one member, which is an object and named after the operation.
func (e *Event) read(content []byte) (measures bool, err error) {
	if err := canonical.CheckForm(content, maxDepth); err != nil {
		return false, err
	}
	if content[0] != '{' {
		return false, errors.New("content must be an object")
	}
	for rest := content[1:]; len(rest) > 1; rest = rest[1:] { // after "{" or ","
		var name, value []byte
		name, rest = rest[:valueLen(rest)], rest[valueLen(rest)+1:]
		value, rest = rest[:valueLen(rest):valueLen(rest)], rest[valueLen(rest):]
		switch string(name) {
		case `"container"`:
			err = stringMember(&e.Container, value)
		case `"measured"`:
			e.Measured = value
		case `"salt"`:
			err = stringMember(&e.Salt, value)
		default:
			err = fmt.Errorf("unknown member %.32s", name)
		}
		if err != nil {
			return false, fmt.Errorf("%w at byte %d", err, len(content)-len(rest)-len(value))
		}
	}
	head := `{"` + e.Operation + `":{`
	return bytes.HasPrefix(e.Measured, []byte(head)) && valueLen(e.Body()) == len(e.Body()), nil
}

// valueLen is the length of the value at the head of canonical JSON, which has no white
// space: a value ends where a colon, a comma or a bracket outside of it follows.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

func stringMember(to *string, value []byte) error {
	if value[0] != '"' || len(value) > maxContainerID {
		return fmt.Errorf("%.32q must be a string of at most %d bytes", value, maxContainerID)
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return errors.New("an empty string must be left out")
	}
	*to = string(text)
	return nil
}

func known(operation string) bool {
	switch operation {
	case OpLaunch, OpImage, OpExec, OpExtend, OpExit:
		return true
	}
	return Public(operation)
}

// strictBase64 is made once: that costs more than decoding a salt.
var strictBase64 = base64.StdEncoding.Strict()

// check checks the event against the rules of its operation.
func (e *Event) check(measures bool) error {
	if Public(e.Operation) {
		if e.Container != "" || e.Salt != "" {
			return fmt.Errorf("a %s event is public: it must name no container and have no salt", e.Operation)
		}
	} else {
		if e.Container == "" {
			return fmt.Errorf("a %s event must name its container", e.Operation)
		}
		var salt [18]byte
		if n, err := strictBase64.Decode(salt[:], []byte(e.Salt[:min(len(e.Salt), 24)])); err != nil || n != 16 || len(e.Salt) != 24 || strings.ContainsAny(e.Salt, "\r\n") {
			return fmt.Errorf("a %s event must have a salt of 16 bytes in standard base64", e.Operation)
		}
	}
	if e.Operation == OpExit {
		if e.Measured != nil {
			return errors.New("an exit event must measure nothing")
		}
		return nil
	}
	if len(e.Measured) == 0 || e.Measured[0] != '{' {
		return fmt.Errorf("a %s event must measure an object", e.Operation)
	}
	if !measures {
		return fmt.Errorf("measured must have one member, an object named %q", e.Operation)
	}
	return nil
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
func (e Event) Body() json.RawMessage {
	if e.Measured == nil {
		return nil
	}
	return e.Measured[len(`{"":`)+len(e.Operation) : len(e.Measured)-1]
}
