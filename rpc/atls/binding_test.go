package atls

import (
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

// Whatever is no whole handshake of our protocol is refused, also where a program's own
// settings let it come about.
func TestFresh(t *testing.T) {
	good := tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13, NegotiatedProtocol: Protocol}
	if err := fresh(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*tls.ConnectionState){
		"one of TLS 1.3":        func(s *tls.ConnectionState) { s.Version = tls.VersionTLS12 },
		"must be one":           func(s *tls.ConnectionState) { s.HandshakeComplete = false },
		`it asked for ""`:       func(s *tls.ConnectionState) { s.NegotiatedProtocol = "" },
		`it asked for "h2"`:     func(s *tls.ConnectionState) { s.NegotiatedProtocol = "h2" },
		"must not be a resumed": func(s *tls.ConnectionState) { s.DidResume = true },
	} {
		s := good
		change(&s)
		if err := fresh(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// What a real session binds is what cima-access(7) says, computed here by its words.
func TestBindingOfASession(t *testing.T) {
	near, far := net.Pipe()
	one, err := ownCertificate()
	if err != nil {
		t.Fatal(err)
	}
	a := tls.Server(far, settings(&tls.Config{Certificates: []tls.Certificate{one}}, server))
	b := tls.Client(near, settings(nil, client))
	t.Cleanup(func() { near.Close(); far.Close() })
	done := make(chan error, 1)
	go func() { done <- a.Handshake(); io.Copy(io.Discard, a) }()
	if err := b.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	nonce := slices.Repeat([]byte{7}, nonceSize)
	for _, r := range []role{server, client} {
		state := b.ConnectionState()
		value, err := state.ExportKeyingMaterial("EXPORTER-cima-tls-v1", append(append([]byte(r), 0), nonce...), 32)
		if err != nil {
			t.Fatal(err)
		}
		text := "cima-tree-leaf-v1\x00" + `{"exporter":"` + hex.EncodeToString(value) + `","profile":"https://github.com/cima-project/cima/tls/v1","role":"` + string(r) + `"}` + "\x00" + string(nonce)
		leaf := sha512.Sum512([]byte(text))
		root := sha512.Sum384(append([]byte{0}, leaf[:]...))
		want := `{"profile":"https://github.com/cima-project/cima/tree/v1","root":"` + hex.EncodeToString(root[:]) + `","size":1}`
		for name, s := range map[string]tls.ConnectionState{"server": a.ConnectionState(), "client": state} {
			binding, err := bindingOf(s, r, nonce)
			if err != nil {
				t.Fatal(err)
			}
			if _, got, err := tree.Bound(&rpc.Shared{Size: 1}, binding, nonce); err != nil || string(got) != want {
				t.Errorf("the %s binds another value for the %s: %s, %v", name, r, got, err)
			}
		}
	}
}

// A program's settings take nothing from what the protocol demands.
func TestSettings(t *testing.T) {
	loose := &tls.Config{
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return new(tls.Config), nil },
	}
	for _, r := range []role{server, client} {
		s := settings(loose, r)
		if s.MinVersion != tls.VersionTLS13 || s.MaxVersion != 0 || !slices.Equal(s.NextProtos, []string{Protocol}) ||
			!s.SessionTicketsDisabled || s.ClientSessionCache != nil || s.GetConfigForClient != nil {
			t.Errorf("%s: %+v", r, s)
		}
	}
	if loose.NextProtos[0] != "h2" || loose.ClientSessionCache == nil {
		t.Error("the program's own settings were changed")
	}
}
