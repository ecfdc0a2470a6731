package logs

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
)

// ParseEvent reads the canonical bytes of one event (see [NewEvent]) and refuses any other
// form, so that an event has exactly one digest. It keeps a copy of raw.
func ParseEvent(raw []byte) (Event, error) { return ReadEvent(bytes.Clone(raw)) }

// ReadEvent is ParseEvent, but keeps raw itself, which must not change then.
func ReadEvent(raw []byte) (Event, error) {
	if len(raw) < boot.TagHeaderLen || len(raw) > MaxEvent {
		return Event{}, fmt.Errorf("a runtime event must have %d to %d bytes, not %d", boot.TagHeaderLen, MaxEvent, len(raw))
	}
	if tag := binary.LittleEndian.Uint32(raw); tag != boot.TagAAEL {
		return Event{}, fmt.Errorf("the tag is %#08x: it must be AAEL's, %#08x", tag, boot.TagAAEL)
	}
	if n := binary.LittleEndian.Uint32(raw[4:]); uint64(n) != uint64(len(raw)-boot.TagHeaderLen) {
		return Event{}, fmt.Errorf("event announces %d bytes, but has %d", n, len(raw)-boot.TagHeaderLen)
	}
	e := Event{raw: raw}
	word, rest, ok := bytes.Cut(e.raw[boot.TagHeaderLen:], []byte(" "))
	if !ok || string(word) != domain {
		return Event{}, fmt.Errorf("an event must be of the domain %q", domain)
	}
	operation, content, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return Event{}, errors.New("an event must have content")
	}
	if e.Operation = known(operation); e.Operation == "" {
		return Event{}, fmt.Errorf("unknown operation %.32q", operation)
	}
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
	var container, salt []byte
	err = canonical.Members(content, maxDepth, func(name, value []byte) (err error) {
		switch string(name) {
		case "container":
			container, err = stringMember(value)
		case "measured":
			e.Measured = value
		case "salt":
			salt, err = stringMember(value)
		default:
			err = fmt.Errorf("unknown member %.32q", name)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	var room [maxContainerID + 32]byte
	both := string(append(append(room[:0], container...), salt...)) // one for both
	e.Container, e.Salt = both[:len(container)], both[len(container):]
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

func stringMember(value []byte) ([]byte, error) {
	if value[0] != '"' || len(value) > maxContainerID {
		return nil, fmt.Errorf("%.32q must be a string of at most %d bytes", value, maxContainerID)
	}
	text := value[1 : len(value)-1]
	if bytes.IndexByte(text, '\\') >= 0 {
		var err error
		if text, err = jsontext.AppendUnquote(nil, value); err != nil {
			return nil, err
		}
	}
	if len(text) == 0 {
		return nil, errors.New("an empty string must be left out")
	}
	return text, nil
}

// allOperations are all of them.
var allOperations = []string{
	OpExtend, OpExec, OpLaunch, OpMounted, OpImage, OpExit, OpStart, OpPolicy, OpSeal, OpSystem, OpPower, OpMissed, OpIMA,
}

// known is the operation of that name, "" for none.
func known(name []byte) string {
	for _, operation := range allOperations {
		if operation == string(name) {
			return operation
		}
	}
	return ""
}

// strictBase64 is made once: that costs more than decoding a salt.
var strictBase64 = base64.StdEncoding.Strict()

// isSalt reports whether text is 16 bytes in standard base64: 22 digits, of which the last
// has two bits, and "==".
func isSalt(text string) bool {
	if len(text) != 24 || text[22:] != "==" || strings.IndexByte("AQgw", text[21]) < 0 {
		return false
	}
	for _, c := range []byte(text[:22]) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/') {
			return false
		}
	}
	return true
}

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
		if !isSalt(e.Salt) {
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
