package server

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/cima-project/cima/rpc"
)

// An envelope holds the members of a request object as they stand in its line.
type envelope struct {
	version, id, method, params []byte // nil: absent

	unknown  []byte    // the name of the first member that there must not be
	variants [4][]byte // names of members that are a known one in other case
}

// known are the members that a request may have.
var known = [...]string{"jsonrpc", "id", "method", "params"}

// openEnvelope takes a line apart that Strict has accepted and that is an object.
func openEnvelope(line []byte) (e envelope) {
	at := afterSpace(line, bytes.IndexByte(line, '{')+1)
	for line[at] != '}' {
		end := afterText(line, at)
		name := line[at:end]
		at = afterSpace(line, afterSpace(line, end)+1) // the colon
		end = afterValue(line, at)
		e.add(name, line[at:end])
		if at = afterSpace(line, end); line[at] == ',' {
			at = afterSpace(line, at+1)
		}
	}
	return e
}

func (e *envelope) add(quoted, value []byte) {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		var text string
		json.Unmarshal(quoted, &text) // Strict has read it
		name = []byte(text)
	}
	switch string(name) {
	case "jsonrpc":
		e.version = value
	case "id":
		e.id = value
	case "method":
		e.method = value
	case "params":
		e.params = value
	default:
		e.addUnknown(name)
	}
}

func (e *envelope) addUnknown(name []byte) {
	if e.unknown == nil {
		e.unknown = name
	}
	for i := range known {
		if bytes.EqualFold(name, []byte(known[i])) {
			e.variants[i] = name
		}
	}
}

// read fills in method and params, and refuses what is no request.
func (e *envelope) read(r *request) error {
	switch {
	case e.version == nil:
		return e.missing(0)
	case string(e.version) != `"2.0"`:
		return wrong("jsonrpc", `is "2.0"`)
	case e.method == nil:
		return e.missing(2)
	case e.method[0] != '"' || len(e.method) <= 2:
		return wrong("method", "is the name of a method")
	}
	r.method = e.method[1 : len(e.method)-1] // no method's name needs an escape
	if r.params = e.params; r.params != nil && r.params[0] != '{' {
		return wrong("params", "is an object with named members")
	}
	for i, name := range e.variants {
		if name != nil {
			return wrong(shortened(name), "is written %q", known[i])
		}
	}
	if e.unknown != nil {
		return wrong(shortened(e.unknown), "is not known here")
	}
	return nil
}

// missing tells a member that is missing from one in other case.
func (e *envelope) missing(i int) error {
	if name := e.variants[i]; name != nil {
		return wrong(shortened(name), "is written %q", known[i])
	}
	return wrong(known[i], "is missing")
}

func wrong(member, format string, args ...any) error {
	return &rpc.MalformedError{Member: member, Reason: fmt.Sprintf(format, args...)}
}

// The rest walks over JSON that Strict has accepted.

func afterSpace(line []byte, at int) int {
	for line[at] == ' ' || line[at] == '\t' || line[at] == '\r' || line[at] == '\n' {
		at++
	}
	return at
}

// afterText is where a string that begins at at ends.
func afterText(line []byte, at int) int {
	for at++; line[at] != '"'; at++ {
		if line[at] == '\\' {
			at++
		}
	}
	return at + 1
}

func afterValue(line []byte, at int) int {
	for depth := 0; ; {
		switch line[at] {
		case '"':
			at = afterText(line, at)
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		case ',', ':', ' ', '\t', '\r', '\n':
			at++
		default:
			at = afterWord(line, at)
		}
		if depth == 0 {
			return at
		}
	}
}

// afterWord is where a number, true, false or null ends.
func afterWord(line []byte, at int) int {
	for at < len(line) && bytes.IndexByte([]byte(",]} \t\r\n"), line[at]) < 0 {
		at++
	}
	return at
}
