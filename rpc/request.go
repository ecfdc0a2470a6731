package rpc

import (
	"bytes"
	"errors"
)

// parseRequest checks that a line is one call as JSON-RPC 2.0 (section 4)
// wants it, unambiguous in all of its parts. id is as written, nil where the
// line has no usable one.
func parseRequest(line []byte) (id []byte, bad *Error) {
	var m members
	s := scanner{data: line}
	s.space()
	if s.peek() == '[' {
		return nil, Errorf(CodeInvalidRequest, "batches are not taken: send one request per line")
	}
	if err := s.all(&m); err != nil {
		var malformed *MalformedError
		errors.As(err, &malformed)
		e := Errorf(CodeParseError, "request: %s", malformed)
		if malformed.Member != "" { // it is JSON, but ambiguous
			e.Code = CodeInvalidRequest
			e.Data = &ErrorData{Member: malformed.Member}
		}
		return nil, e
	}
	id = m.take("id", false)
	if !validID(id) {
		return nil, Errorf(CodeInvalidRequest, "request: id is a whole number or a string of at most %d bytes, and must be there", maxID-2)
	}
	if version := m.take("jsonrpc", true); version != nil && string(version) != `"2.0"` {
		m.wrong("jsonrpc", `is "2.0"`)
	}
	if method := m.take("method", true); method != nil && (method[0] != '"' || len(method) <= 2) {
		m.wrong("method", "is the name of a method")
	}
	if params := m.take("params", false); params != nil && params[0] != '{' {
		m.wrong("params", "is an object with named members")
	}
	m.only()
	if !m.failed() {
		return id, nil
	}
	var malformed *MalformedError
	errors.As(m.err, &malformed)
	e := Errorf(CodeInvalidRequest, "request: %s", malformed)
	e.Data = &ErrorData{Member: malformed.Member}
	return id, e
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
