package rpc

import (
	"errors"
	"strings"
)

// errNotOurs says that somebody answers who is not cimad.
var errNotOurs = errors.New("whoever answers there does not speak JSON-RPC")

// notOurs is the error of a reply that is none of cimad's, or nil: another service's
// socket was named, docker's for example.
func notOurs(path string, reply []byte) error {
	if len(reply) == 0 || reply[0] == '{' {
		return nil
	}
	what := "another service listens there"
	if strings.HasPrefix(string(reply), "HTTP/") {
		what = "an HTTP service listens there, as an engine's API does (docker.sock)"
	}
	return &UnreachableError{Path: path, Err: errNotOurs, Hint: what + ": name cimad's socket, " + DefaultSocket}
}
