package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
)

// maxID is how many bytes the id of a request may have, as written.
const maxID = 128

// A request is a line taken apart. id is nil where the line has no usable one,
// params where it has none.
type request struct {
	id     []byte
	method []byte
	params json.RawMessage
}

// parseRequest checks that a line is one call as JSON-RPC 2.0 (section 4)
// wants it, unambiguous in all of its parts. m is room to do so.
func parseRequest(line []byte, m *members) (r request, bad *Error) {
	m.reset()
	s := scanner{data: line}
	s.space()
	if s.peek() == '[' {
		return r, Errorf(CodeInvalidRequest, "batches are not taken: send one request per line")
	}
	if m.err = s.all(m); m.failed() {
		bad = invalidRequest(m.err)
		if bad.Data == nil { // not JSON; what names a member is, but ambiguous
			bad.Code = CodeParseError
		}
		return r, bad
	}
	id := m.take("id", false)
	if !validID(id) {
		return r, Errorf(CodeInvalidRequest, "request: id is a whole number or a string of at most %d bytes, and must be there", maxID-2)
	}
	r.id = id
	if version := m.take("jsonrpc", true); version != nil && string(version) != `"2.0"` {
		m.wrong("jsonrpc", `is "2.0"`)
	}
	if method := m.take("method", true); method != nil {
		if method[0] != '"' || len(method) <= 2 {
			m.wrong("method", "is the name of a method")
		} else {
			r.method = method[1 : len(method)-1] // no method's name needs an escape
		}
	}
	if params := m.take("params", false); params != nil {
		if params[0] != '{' {
			m.wrong("params", "is an object with named members")
		}
		r.params = params
	}
	m.only()
	if m.failed() {
		return r, invalidRequest(m.err)
	}
	return r, nil
}

func invalidRequest(err error) *Error {
	e := Errorf(CodeInvalidRequest, "request: %s", err)
	var malformed *MalformedError
	if errors.As(err, &malformed) && malformed.Member != "" {
		e.Data = &ErrorData{Member: malformed.Member}
	}
	return e
}

// validID allows what every client can tell apart: strings and whole numbers.
func validID(id []byte) bool {
	if len(id) == 0 || len(id) > maxID {
		return false
	}
	if id[0] == '"' {
		return true
	}
	return (id[0] == '-' || '0' <= id[0] && id[0] <= '9') && !bytes.ContainsAny(id, ".eE")
}
