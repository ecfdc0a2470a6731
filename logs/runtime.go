package logs

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gowebpki/jcs"
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
	tagAAEL      = 0x4141454C // "AAEL", TCG tagged event id of Confidential Containers
	tagHeaderLen = 8

	// MaxEvent bounds the bytes of one event, its tag header included.
	MaxEvent = 256 << 10
)

// Content is the JSON content of a runtime event.
type Content struct {
	// Container is whose event it is: the container id, preceded by
	// "uid/" where the record belongs to a user. Empty for public events.
	Container string `json:"container,omitempty"`

	// Measured is an object with one member, named after the operation.
	// Only exit has none.
	Measured json.RawMessage `json:"measured,omitempty"`

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
	if err := check(operation, content); err != nil {
		return Event{}, err
	}
	plain, err := json.Marshal(content)
	if err != nil {
		return Event{}, fmt.Errorf("%s event: %w", operation, err)
	}
	canonical, err := jcs.Transform(plain)
	if err != nil {
		return Event{}, fmt.Errorf("%s event: %w", operation, err)
	}
	text := Domain + " " + operation + " " + string(canonical)
	if len(text)+tagHeaderLen > MaxEvent {
		return Event{}, fmt.Errorf("%s event has %d bytes, more than %d", operation, len(text)+tagHeaderLen, MaxEvent)
	}
	raw := make([]byte, tagHeaderLen, tagHeaderLen+len(text))
	binary.LittleEndian.PutUint32(raw, tagAAEL)
	binary.LittleEndian.PutUint32(raw[4:], uint32(len(text)))
	raw = append(raw, text...)
	return ParseEvent(raw)
}

// ParseEvent reads the canonical bytes of one event and refuses any other
// form of them, so that an event has exactly one digest.
func ParseEvent(raw []byte) (Event, error) {
	if len(raw) < tagHeaderLen || len(raw) > MaxEvent {
		return Event{}, fmt.Errorf("a runtime event has %d to %d bytes, not %d", tagHeaderLen, MaxEvent, len(raw))
	}
	if tag := binary.LittleEndian.Uint32(raw); tag != tagAAEL {
		return Event{}, fmt.Errorf("tag %#08x is not AAEL's %#08x", tag, tagAAEL)
	}
	if n := binary.LittleEndian.Uint32(raw[4:]); uint64(n) != uint64(len(raw)-tagHeaderLen) {
		return Event{}, fmt.Errorf("event announces %d bytes and has %d", n, len(raw)-tagHeaderLen)
	}
	text := raw[tagHeaderLen:]
	domain, rest, ok := bytes.Cut(text, []byte(" "))
	if !ok || string(domain) != Domain {
		return Event{}, fmt.Errorf("event is not of the domain %q", Domain)
	}
	operation, content, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return Event{}, errors.New("event has no content")
	}
	canonical, err := jcs.Transform(content)
	if err != nil {
		return Event{}, fmt.Errorf("event content: %w", err)
	}
	if !bytes.Equal(canonical, content) {
		return Event{}, errors.New("event content is not canonical JSON (RFC 8785)")
	}
	e := Event{Operation: string(operation), raw: bytes.Clone(raw)}
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&e.Content); err != nil {
		return Event{}, fmt.Errorf("event content: %w", err)
	}
	if err := check(e.Operation, e.Content); err != nil {
		return Event{}, err
	}
	// Case variants of a member's name decode too: what was understood must
	// be what stands there.
	again, err := json.Marshal(e.Content)
	if err != nil {
		return Event{}, fmt.Errorf("event content: %w", err)
	}
	if again, err = jcs.Transform(again); err != nil || !bytes.Equal(again, content) {
		return Event{}, errors.New("event content has members of another spelling")
	}
	return e, nil
}

func check(operation string, c Content) error {
	switch operation {
	case OpStart, OpPolicy, OpSeal, OpSystem, OpPower, OpLaunch, OpImage, OpExec, OpExtend, OpExit, OpMissed, OpIMA:
	default:
		return fmt.Errorf("unknown operation %q", operation)
	}
	if Public(operation) {
		if c.Container != "" || c.Salt != "" {
			return fmt.Errorf("a public %s event names no container and has no salt", operation)
		}
	} else {
		if c.Container == "" {
			return fmt.Errorf("a %s event names its container", operation)
		}
		salt, err := base64.StdEncoding.Strict().DecodeString(c.Salt)
		if err != nil || len(salt) != 16 || strings.ContainsAny(c.Salt, "\r\n") {
			return fmt.Errorf("a %s event has a salt of 16 bytes in standard base64", operation)
		}
	}
	if operation == OpExit {
		if c.Measured != nil {
			return errors.New("an exit event measures nothing")
		}
		return nil
	}
	var measured map[string]json.RawMessage
	if err := json.Unmarshal(c.Measured, &measured); err != nil {
		return fmt.Errorf("%s event: measured: %w", operation, err)
	}
	if body, ok := measured[operation]; !ok || len(measured) != 1 || len(body) == 0 || body[0] != '{' {
		return fmt.Errorf("measured has one member, an object named %q", operation)
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
	var measured map[string]json.RawMessage
	if e.Measured == nil || json.Unmarshal(e.Measured, &measured) != nil {
		return nil
	}
	return measured[e.Operation]
}

// Extend returns SHA-384(register ‖ digest), the arithmetic of every register
// here: RTMRs (TDG.MR.RTMR.EXTEND), container and public registers.
func Extend(register, digest [48]byte) [48]byte {
	var both [96]byte
	copy(both[:48], register[:])
	copy(both[48:], digest[:])
	return sha512.Sum384(both[:])
}
