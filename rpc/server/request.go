package server

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// maxID is how many bytes the id of a request may have, as written.
const maxID = 128

// A request is a line taken apart; its members are as written in the line. id is
// nil where the line has no usable one, params where it has none.
type request struct {
	id     []byte
	method []byte // without its quotes
	params jsontext.Value
}

// A requestReader reads the envelopes of requests, one after the other.
type requestReader struct {
	in bytes.Buffer
	d  *jsontext.Decoder // of in
}

// read checks that a line is one call as JSON-RPC 2.0 (section 4) wants it: one
// object of jsonrpc, id, method and params, all of it with one meaning.
func (r *requestReader) read(line []byte) (request, *rpc.Error) {
	if text := bytes.TrimLeft(line, " \t\r\n"); len(text) > 0 && text[0] == '[' {
		return request{}, rpc.Errorf(rpc.CodeInvalidRequest, "batches are not taken: send one request per line")
	}
	var e envelope
	if bad := r.open(line, &e); bad != nil {
		return request{}, bad
	}
	if !validID(e.id) {
		return request{}, rpc.Errorf(rpc.CodeInvalidRequest, "request: id must be a whole number or a string of at most %d bytes", maxID-2)
	}
	return e.request()
}

// open finds the members of the object that a line must be.
func (r *requestReader) open(line []byte, e *envelope) *rpc.Error {
	r.in = *bytes.NewBuffer(line)
	if r.d == nil {
		r.d = jsontext.NewDecoder(&r.in)
	} else {
		r.d.Reset(&r.in)
	}
	if r.d.PeekKind() != jsontext.KindBeginObject {
		return notJSON(line, "must be an object")
	}
	if _, err := r.d.ReadToken(); err != nil {
		return r.explain(line, err)
	}
	for r.d.PeekKind() != jsontext.KindEndObject {
		name, err := r.d.ReadValue()
		if err != nil {
			return r.explain(line, err)
		}
		into := e.member(name)
		if *into, err = r.value(line); err != nil {
			return r.explain(line, err)
		}
	}
	if _, err := r.d.ReadToken(); err != nil {
		return r.explain(line, err)
	}
	if _, err := r.d.ReadToken(); err != io.EOF {
		return notJSON(line, "must end after the object")
	}
	if e.unknown != nil { // perhaps another one in other case
		return ambiguous(canonical.CheckNames(line))
	}
	return nil
}

var (
	errDeep  = errors.New("nested too deep")
	errNames = errors.New("names may differ in case alone")
)

// value reads the next value, all the way down. It is a part of line, which the
// decoder may not keep for itself.
func (r *requestReader) value(line []byte) ([]byte, error) {
	top, plain, from := r.d.StackDepth(), true, -1
	for {
		kind := r.d.PeekKind()
		if (kind == jsontext.KindBeginObject || kind == jsontext.KindBeginArray) && r.d.StackDepth() >= canonical.MaxDepth {
			return nil, errDeep
		}
		in, n := r.d.StackIndex(r.d.StackDepth())
		isName := in == jsontext.KindBeginObject && n%2 == 0 && kind == jsontext.KindString
		size, err := r.step(kind, isName, &plain)
		if err != nil {
			return nil, err
		}
		if from < 0 {
			from = int(r.d.InputOffset()) - size
		}
		if r.d.StackDepth() == top {
			break
		}
	}
	value := line[from:r.d.InputOffset()]
	if !plain && canonical.CheckNames(value) != nil {
		return value, errNames
	}
	return value, nil
}

// step reads one token and returns its size; plain becomes false where it is a name
// that another one may differ from in case alone.
func (r *requestReader) step(kind jsontext.Kind, isName bool, plain *bool) (size int, err error) {
	switch kind {
	case jsontext.KindBeginObject, jsontext.KindBeginArray, jsontext.KindEndObject, jsontext.KindEndArray:
		_, err = r.d.ReadToken()
		return 1, err
	}
	raw, err := r.d.ReadValue()
	if err == nil && isName {
		*plain = *plain && isPlain(raw)
	}
	return len(raw), err
}

// isPlain reports whether a name has no letter that has another case.
func isPlain(name []byte) bool {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' || c >= 0x80 || c == '\\' {
			return false
		}
	}
	return true
}

// explain says what is wrong with a line in the words of package canonical.
func (r *requestReader) explain(line []byte, err error) *rpc.Error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, errDeep):
		return rpc.Errorf(rpc.CodeParseError, "request: must nest at most %d deep", canonical.MaxDepth)
	case errors.Is(err, errNames):
		return ambiguous(canonical.CheckNames(line))
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		name := canonical.Clip(syntax.JSONPointer.LastToken(), 64)
		return invalidRequest(name, fmt.Sprintf("member %q appears twice", name))
	}
	return notJSON(line, "must be JSON")
}

// notJSON is the answer to a line that JSON-RPC calls a parse error.
func notJSON(line []byte, reason string) *rpc.Error {
	if err := canonical.CheckNames(line); err != nil {
		reason = err.Error()
	}
	return rpc.Errorf(rpc.CodeParseError, "request: %s", reason)
}

// ambiguous is the answer to a line whose JSON may mean two things: nil where err is.
func ambiguous(err error) *rpc.Error {
	var e *canonical.Error
	if !errors.As(err, &e) {
		return nil
	}
	return invalidRequest(e.Member[strings.LastIndexByte(e.Member, '.')+1:], e.Error())
}

func invalidRequest(member, reason string) *rpc.Error {
	e := rpc.Errorf(rpc.CodeInvalidRequest, "request: %s", reason)
	if member != "" {
		e.Data = &rpc.ErrorData{Member: member}
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
