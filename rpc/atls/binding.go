// Package atls answers: who is at the other end of this TLS session?
//
// After an ordinary handshake of TLS 1.3 each end that wants to know sends a nonce. The
// other end answers with evidence of its container, whose user data hold an exporter
// value of this very session (cima-access(7), TLS). A key proves nothing here, so that
// nothing is lost with it: whoever relays a session, or has a copy of the key, has
// another session. A container with many sessions shares one quote among all that wait
// (rpc/tree).
//
// The package appraises nothing itself and links no verifier: who wants to know gives an
// Appraiser, such as that of hw/verify/peers.
package atls

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/cima-project/cima/rpc/tree"
)

const (
	// Protocol is what both ends agree on by ALPN, so that no other TLS program talks
	// to this one by mistake.
	Protocol = "cima-tls/1"

	// label is of the exporter (RFC 8446, section 7.5). RFC 9266's value is other
	// protocols' too, and is the same at both ends.
	label = "EXPORTER-cima-tls-v1"

	nonceSize = 32
)

// role is an end of a session. It is in the exporter's context, so that an end can't
// give the other its own evidence back.
type role string

const (
	server role = "server"
	client role = "client"
)

func (r role) other() role {
	if r == server {
		return client
	}
	return server
}

// fresh refuses sessions that prove less than a whole handshake of our protocol.
func fresh(s tls.ConnectionState) error {
	switch {
	case !s.HandshakeComplete || s.Version != tls.VersionTLS13:
		return errors.New("the session must be one of TLS 1.3")
	case s.NegotiatedProtocol != Protocol:
		return fmt.Errorf("the other end must speak %s (ALPN); it asked for %q", Protocol, s.NegotiatedProtocol)
	case s.DidResume:
		return errors.New("the session must not be a resumed one: nobody was attested in it")
	}
	return nil
}

// bindingOf is what a session has in the tree of all sessions that share a quote: its
// exporter value for the one who proves and the nonce of the one who asked.
func bindingOf(s tls.ConnectionState, proves role, nonce []byte) (b tree.Binding, err error) {
	if err := fresh(s); err != nil {
		return b, err
	}
	value, err := s.ExportKeyingMaterial(label, append([]byte(proves+"\x00"), nonce...), 32)
	if err != nil {
		return b, fmt.Errorf("the session's exporter: %w", err)
	}
	return tree.OfSession(value, string(proves)), nil
}
