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
	case OpLaunch, OpMounted, OpImage, OpExec, OpExtend, OpExit:
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
