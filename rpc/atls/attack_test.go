package atls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cima-project/cima/rpc/tree"
)

// between a victim and a real server stands a machine that passes on nonce and evidence.
// It ends TLS with a key of its own, or with a copy of the server's.
func relay(t *testing.T, to string, key tls.Certificate) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer nc.Close()
				s := ours()
				s.Certificates = []tls.Certificate{key}
				victim := tls.Server(nc, s)
				k, nonce, err := readFrame(victim)
				if err != nil || k != frameChallenge {
					return
				}
				real, err := tls.Dial("tcp", to, ours())
				if err != nil {
					return
				}
				defer real.Close()
				real.Write(frame(nil, frameChallenge, nonce))
				for _, way := range [][2]*tls.Conn{{real, victim}, {real, victim}, {victim, real}, {real, victim}} {
					k, body, err := readFrame(way[0])
					if err != nil {
						return
					}
					way[1].Write(frame(nil, k, body))
				}
				victim.Write(frame(nil, frameData, []byte(greeting)))
				io.Copy(io.Discard, victim)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

func TestRelayIsRefused(t *testing.T) {
	key, err := ownCertificate()
	if err != nil {
		t.Fatal(err)
	}
	real, _ := serving(t, Server{Prover: tree.NewProver(&container{name: "a"}), Config: &tls.Config{Certificates: []tls.Certificate{key}}})
	other, err := ownCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, with := range map[string]tls.Certificate{"own key": other, "copied key": key} {
		for range 20 {
			if _, err := greeted(t, &Dialer{Appraiser: only("a")}, relay(t, real, with)); !errors.Is(err, errRefused) {
				t.Fatalf("%s: err = %v", name, err)
			}
		}
	}
}

// Evidence of an earlier session fits no later one, and no other nonce of the same.
func TestReplayIsRefused(t *testing.T) {
	address := server1(t)
	c := raw(t, address, ours())
	c.Write(frame(nil, frameChallenge, bytes.Repeat([]byte{7}, nonceSize)))
	old := answers(t, c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key, err := ownCertificate()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s := ours()
			s.Certificates = []tls.Certificate{key}
			victim := tls.Server(nc, s)
			readFrame(victim)
			victim.Write(slices.Concat(old[:2]...))
			readFrame(victim)
			victim.Write(old[2])
			io.Copy(io.Discard, victim)
			victim.Close()
		}
	}()
	if _, err := greeted(t, &Dialer{Appraiser: only("a")}, l.Addr().String()); !errors.Is(err, errRefused) {
		t.Errorf("err = %v", err)
	}
}

// A client gives the server the server's own nonce, and its own evidence back.
func TestReflectionIsRefused(t *testing.T) {
	address, refused := serving(t, Server{Prover: tree.NewProver(&container{name: "a"}), Appraiser: only("a")})
	c := raw(t, address, ours())
	k, nonce, err := readFrame(c)
	if err != nil || k != frameChallenge {
		t.Fatal(k, err)
	}
	c.Write(frame(nil, frameChallenge, nonce))
	theirs := answers(t, c)
	c.Write(slices.Concat(theirs[:2]...))
	if k, _, err := readFrame(c); k != frameLacking {
		t.Fatal(k, err)
	}
	c.Write(theirs[2])
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if err := <-refused; !errors.Is(err, errRefused) {
		t.Errorf("refused by %v", err)
	}
}

// Clients who send much evidence, and not all of it, are given up where there is no room left,
// and room that sessions had is free when they end.
func TestRoomForEvidence(t *testing.T) {
	const roomy = 100_000
	address, refused := serving(t, Server{Prover: tree.NewProver(&container{name: "a"}), Appraiser: only("b"), room: roomy})
	begin := func() *tls.Conn {
		c := raw(t, address, ours())
		if k, _, err := readFrame(c); k != frameChallenge {
			t.Fatal(k, err)
		}
		c.Write(frame(nil, frameChallenge, make([]byte, nonceSize)))
		answers(t, c)
		c.Write(frame(nil, frameTree, []byte(`{"size":1,"index":0,"path":[]}`)))
		return c
	}
	report := frame(nil, frameReport, make([]byte, roomy*3/5))
	for range 3 { // who goes leaves his room
		c := begin()
		c.Write(report[:len(report)-1])
		c.Close()
		<-refused
		d := begin()
		d.Write(report)
		if k, _, err := readFrame(d); k != frameLacking {
			t.Fatal(k, err)
		}
		e := begin()
		e.Write(report)
		if err := <-refused; !strings.Contains(err.Error(), "no room") {
			t.Error(err)
		}
		d.Close()
		<-refused
		e.Close()
	}
	ours := &Dialer{Appraiser: only("a"), Prover: tree.NewProver(&container{name: "b"})}
	if got, err := greeted(t, ours, address); got != greeting {
		t.Errorf("%q, %v", got, err)
	}
}
