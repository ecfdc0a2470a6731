package server

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// An envelope is a request's members, as they stand in its line; nil: absent.
type envelope struct {
	version, id, method, params []byte

	unknown []byte    // the name of the first other member, unescaped
	variant [4][]byte // the name of one that is a known one in other case
	other   []byte    // the value of an unknown member, which nobody reads
}

// known are the members that a request may have.
var known = [...]string{"jsonrpc", "id", "method", "params"}

// member is where the value of the member with that name belongs.
func (e *envelope) member(raw []byte) *[]byte {
	name := raw[1 : len(raw)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name, _ = jsontext.AppendUnquote(nil, raw) // the decoder has checked it
	}
	switch string(name) {
	case "jsonrpc":
		return &e.version
	case "id":
		return &e.id
	case "method":
		return &e.method
	case "params":
		return &e.params
	}
	name = bytes.Clone(name)
	if e.unknown == nil {
		e.unknown = name
	}
	for i := range known {
		if bytes.EqualFold(name, []byte(known[i])) {
			e.variant[i] = name
		}
	}
	return &e.other
}

// request refuses what is no request. The id comes with the error.
func (e *envelope) request() (r request, bad *rpc.Error) {
	r.id = e.id
	switch {
	case e.version == nil:
		return r, e.missing(0)
	case string(e.version) != `"2.0"`:
		return r, wrong("jsonrpc", `must be "2.0"`)
	case e.method == nil:
		return r, e.missing(2)
	case e.method[0] != '"' || len(e.method) <= 2:
		return r, wrong("method", "must be the name of a method")
	case e.params != nil && e.params[0] == '[':
		return r, rpc.InvalidParams("", "params: must be an object with named members, not a list by position")
	case e.params != nil && e.params[0] != '{':
		return r, wrong("params", "must be an object with named members")
	}
	for i, name := range e.variant {
		if name != nil {
			return r, misspelled(name, known[i])
		}
	}
	if e.unknown != nil {
		return r, wrong(canonical.Clip(string(e.unknown), 64), "is not known here")
	}
	r.method, r.params = e.method[1:len(e.method)-1], e.params // no method's name needs an escape
	return r, nil
}

// missing tells a member that is missing from one in other case.
func (e *envelope) missing(i int) *rpc.Error {
	if name := e.variant[i]; name != nil {
		return misspelled(name, known[i])
	}
	return wrong(known[i], "must be there")
}

func misspelled(name []byte, known string) *rpc.Error {
	return invalidRequest(canonical.Clip(string(name), 64), fmt.Sprintf("member %q must be written %q", canonical.Clip(string(name), 64), known))
}

func wrong(member, reason string) *rpc.Error {
	return invalidRequest(member, fmt.Sprintf("member %q: %s", member, reason))
}
