package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/cima-project/cima/rpc"
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
// wants it, unambiguous in all of its parts.
func parseRequest(line []byte) (r request, bad *rpc.Error) {
	first := bytes.TrimLeft(line, " \t\r\n")
	if bytes.HasPrefix(first, []byte("[")) {
		return r, rpc.Errorf(rpc.CodeInvalidRequest, "batches are not taken: send one request per line")
	}
	err := rpc.Strict(line)
	if !bytes.HasPrefix(first, []byte("{")) && utf8.Valid(line) {
		err = &rpc.MalformedError{Offset: len(line) - len(first), Reason: "not an object"}
	}
	if err != nil {
		bad = invalidRequest(err)
		if bad.Data == nil { // not JSON; what names a member is, but ambiguous
			bad.Code = rpc.CodeParseError
		}
		return r, bad
	}
	e := openEnvelope(line)
	if !validID(e.id) {
		return r, rpc.Errorf(rpc.CodeInvalidRequest, "request: id is a whole number or a string of at most %d bytes, and must be there", maxID-2)
	}
	r.id = e.id
	if err := e.read(&r); err != nil {
		return r, invalidRequest(err)
	}
	return r, nil
}

func invalidRequest(err error) *rpc.Error {
	e := rpc.Errorf(rpc.CodeInvalidRequest, "request: %s", err)
	var malformed *rpc.MalformedError
	if errors.As(err, &malformed) && malformed.Member != "" {
		e.Data = &rpc.ErrorData{Member: malformed.Member}
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

// shortened keeps what a caller sent from filling our messages.
func shortened(text []byte) string {
	const most = 64
	if len(text) <= most {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:most]), "") + "…"
}
