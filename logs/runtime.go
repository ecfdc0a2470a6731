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

// Domain is the first word of every event of the runtime log.
const Domain = "cima"

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

// Public reports whether every container sees events of this operation whole.
func Public(operation string) bool {
	switch operation {
	case OpStart, OpPolicy, OpSeal, OpSystem, OpPower, OpMissed, OpIMA:
		return true
	}
	return false
}

const (
	// MaxEvent bounds the bytes of one event, its tag header included.
	MaxEvent = 256 << 10

	maxContainerID = 512 // in JSON, with its quotes
)

// Content is the JSON content of a runtime event.
type Content struct {
	// Container is whose event it is: the container id, preceded by
	// "uid/" where the record belongs to a user. Empty for public events.
	Container string `json:"container,omitempty"`

	// Measured is an object with one member, named after the operation.
	// Only exit has none.
	Measured json.RawMessage `json:"measured,omitzero"`

	// Salt is 16 random bytes in standard base64, so that the digest of an
	// event of somebody else's can't be guessed. Empty for public events.
	Salt string `json:"salt,omitempty"`
}

// Event is one event of the runtime log.
type Event struct {
	Operation string
	Content

	raw []byte
}

// NewEvent makes the canonical bytes of an event: a TCG tagged event in AAEL
// form (u32 tag, u32 length, both little-endian, then the text
// "cima <operation> <RFC 8785 JSON>").
func NewEvent(operation string, content Content) (Event, error) {
	text, err := canonical.Marshal(content)
	if err != nil {
		return Event{}, fmt.Errorf("%s event: %w", operation, err)
	}
	n := len(Domain) + 1 + len(operation) + 1 + len(text)
	raw := make([]byte, 0, boot.TagHeaderLen+n)
	raw = binary.LittleEndian.AppendUint32(raw, boot.TagAAEL)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(n))
	raw = append(raw, Domain+" "+operation+" "...)
	raw = append(raw, text...)
	e, err := ParseEvent(raw)
	if err != nil {
		return Event{}, err
	}
	if e.Container != content.Container {
		return Event{}, fmt.Errorf("container id %q is not UTF-8", content.Container)
	}
	return e, nil
}

// ParseEvent reads the canonical bytes of one event and refuses any other
// form of them, so that an event has exactly one digest.
func ParseEvent(raw []byte) (Event, error) {
	if len(raw) < boot.TagHeaderLen || len(raw) > MaxEvent {
		return Event{}, fmt.Errorf("a runtime event has %d to %d bytes, not %d", boot.TagHeaderLen, MaxEvent, len(raw))
	}
	if tag := binary.LittleEndian.Uint32(raw); tag != boot.TagAAEL {
		return Event{}, fmt.Errorf("tag %#08x is not AAEL's %#08x", tag, boot.TagAAEL)
	}
	if n := binary.LittleEndian.Uint32(raw[4:]); uint64(n) != uint64(len(raw)-boot.TagHeaderLen) {
		return Event{}, fmt.Errorf("event announces %d bytes and has %d", n, len(raw)-boot.TagHeaderLen)
	}
	e := Event{raw: bytes.Clone(raw)}
	domain, rest, ok := bytes.Cut(e.raw[boot.TagHeaderLen:], []byte(" "))
	if !ok || string(domain) != Domain {
		return Event{}, fmt.Errorf("event is not of the domain %q", Domain)
	}
	operation, content, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return Event{}, errors.New("event has no content")
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

// read takes the members out of content, which must be canonical, and says whether
// what is measured is an object with one member, an object named after the operation.
func (e *Event) read(content []byte) (measures bool, err error) {
	if err := canonical.CheckForm(content, maxDepth); err != nil {
		return false, err
	}
	if content[0] != '{' {
		return false, errors.New("content must be an object")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(content))
	next(d)
	for d.PeekKind() != '}' {
		name := next(d)
		start := d.InputOffset() + 1 // behind the colon
		if name == "measured" && d.PeekKind() == '{' {
			measures = e.readMeasured(d)
		} else if err := d.SkipValue(); err != nil {
			return false, err
		}
		value := content[start:d.InputOffset():d.InputOffset()]
		switch name {
		case "container":
			err = stringMember(&e.Container, value)
		case "measured":
			e.Measured = value
		case "salt":
			err = stringMember(&e.Salt, value)
		default:
			err = fmt.Errorf("unknown member %.32q", name)
		}
		if err != nil {
			return false, fmt.Errorf("%w at byte %d", err, start)
		}
	}
	return measures, nil
}

// readMeasured passes over the object that is measured.
func (e *Event) readMeasured(d *jsontext.Decoder) (measures bool) {
	next(d)
	members := 0
	for ; d.PeekKind() == '"'; members++ {
		measures = next(d) == e.Operation && d.PeekKind() == '{'
		d.SkipValue()
	}
	next(d)
	return measures && members == 1
}

// next is the next token of JSON that is known to be canonical.
func next(d *jsontext.Decoder) string {
	token, err := d.ReadToken()
	if err != nil {
		return ""
	}
	return token.String()
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

var strictBase64 = base64.StdEncoding.Strict() // making it costs more than decoding a salt

// check holds the event against its operation's rules.
func (e *Event) check(measures bool) error {
	if Public(e.Operation) {
		if e.Container != "" || e.Salt != "" {
			return fmt.Errorf("a public %s event names no container and has no salt", e.Operation)
		}
	} else {
		if e.Container == "" {
			return fmt.Errorf("a %s event names its container", e.Operation)
		}
		var salt [18]byte
		if n, err := strictBase64.Decode(salt[:], []byte(e.Salt[:min(len(e.Salt), 24)])); err != nil || n != 16 || len(e.Salt) != 24 || strings.ContainsAny(e.Salt, "\r\n") {
			return fmt.Errorf("a %s event has a salt of 16 bytes in standard base64", e.Operation)
		}
	}
	if e.Operation == OpExit {
		if e.Measured != nil {
			return errors.New("an exit event measures nothing")
		}
		return nil
	}
	if len(e.Measured) == 0 || e.Measured[0] != '{' {
		return fmt.Errorf("a %s event measures an object", e.Operation)
	}
	if !measures {
		return fmt.Errorf("measured has one member, an object named %q", e.Operation)
	}
	return nil
}

// Bytes are the canonical bytes, tag header included.
func (e Event) Bytes() []byte { return e.raw }

// Digest is SHA-384 of the canonical bytes: what extends RTMR3.
func (e Event) Digest() [48]byte { return sha512.Sum384(e.raw) }

// MeasuredDigest is SHA-384 of the canonical JSON of Measured: what extends a
// container register or the public register. It is the same on any machine,
// for it covers neither container id nor salt. False where nothing is
// measured.
func (e Event) MeasuredDigest() ([48]byte, bool) {
	if e.Measured == nil {
		return [48]byte{}, false
	}
	return sha512.Sum384(e.Measured), true // canonical already: ParseEvent saw to it
}

// Body is the measured object's only member, named after the operation.
func (e Event) Body() json.RawMessage {
	if e.Measured == nil {
		return nil
	}
	return e.Measured[len(`{"":`)+len(e.Operation) : len(e.Measured)-1]
}

// Extend returns SHA-384(register ‖ digest), the arithmetic of every register
// here: RTMRs (TDG.MR.RTMR.EXTEND), container and public registers.
func Extend(register, digest [48]byte) [48]byte {
	var both [96]byte
	copy(both[:48], register[:])
	copy(both[48:], digest[:])
	return sha512.Sum384(both[:])
}
