package atls

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

func TestSession(t *testing.T) {
	text, err := greeted(t, &Dialer{Appraiser: only("a")}, server1(t))
	if err != nil || text != greeting {
		t.Fatalf("%q, %v", text, err)
	}
}

func TestAnotherContainerIsRefused(t *testing.T) {
	if _, err := greeted(t, &Dialer{Appraiser: only("b")}, server1(t)); !errors.Is(err, errRefused) {
		t.Errorf("err = %v", err)
	}
}

// All that travels comes out as it went in, both ways, whatever the sizes.
func TestBytesGoThrough(t *testing.T) {
	c, err := (&Dialer{Appraiser: only("a")}).DialContext(t.Context(), "tcp", server1(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(greeting))); err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 1<<20+17)
	rand.Read(sent)
	go func() {
		for at, n := 0, 1; at < len(sent); at, n = at+n, n*3 {
			n = min(n, len(sent)-at)
			c.Write(sent[at : at+n])
		}
		c.(*Conn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d came back: %v", len(got), len(sent), err)
	}
}

// A deadline in the midst of a frame loses nothing: net/http sets such.
func TestDeadlineLosesNothing(t *testing.T) {
	address, _ := serving(t, Server{Prover: tree.NewProver(&container{name: "a"})})
	c, err := (&Dialer{Appraiser: only("a")}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.ReadFull(c, make([]byte, len(greeting)))
	for range 20 {
		c.SetReadDeadline(time.Unix(1, 0))
		if _, err := c.Read(make([]byte, 9)); err == nil {
			t.Fatal("a read after the deadline succeeded")
		}
		c.SetReadDeadline(time.Time{})
		c.Write([]byte("abc"))
		back := make([]byte, 3)
		if _, err := io.ReadFull(c, back); err != nil || string(back) != "abc" {
			t.Fatalf("%q, %v", back, err)
		}
	}
}

func TestHTTP(t *testing.T) {
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Server{Prover: tree.NewProver(&container{name: "a"})}.Listen(below)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })}
	go web.Serve(l)
	defer web.Close()
	transport := &http.Transport{DialTLSContext: (&Dialer{Appraiser: only("a")}).DialContext}
	defer transport.CloseIdleConnections()
	for range 3 {
		r, err := (&http.Client{Transport: transport}).Post("https://"+l.Addr().String(), "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || string(text) != "hello" {
			t.Fatalf("%q, %v", text, err)
		}
	}
}

func TestRateLimitIsWaitedOut(t *testing.T) {
	d := &container{name: "a", errors: []error{rpc.RateLimited(2*time.Millisecond, "slower"), rpc.NotReady(time.Millisecond, "soon")}}
	address, _ := serving(t, Server{Prover: tree.NewProver(d)})
	if _, err := greeted(t, &Dialer{Appraiser: only("a")}, address); err != nil || d.asked() != 3 {
		t.Errorf("%d calls, %v", d.asked(), err)
	}
}

// Another error of the daemon ends the session, and the client gets no byte.
func TestWithoutEvidenceNothing(t *testing.T) {
	d := &container{name: "a", errors: []error{rpc.Denied("a reason that is nobody's business")}}
	address, refused := serving(t, Server{Prover: tree.NewProver(d)})
	c := raw(t, address, ours())
	c.Write(frame(nil, frameChallenge, make([]byte, nonceSize)))
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("the client got %q, %v: want a TLS alert alone", got, err)
	}
	if err := <-refused; !strings.Contains(err.Error(), "nobody's business") {
		t.Errorf("the server's own log has %v", err)
	}
}

// Clients that don't speak the protocol get nothing, not one byte.
func TestOtherClientsGetNothing(t *testing.T) {
	address := server1(t)
	for name, s := range map[string]*tls.Config{
		"without ALPN": {InsecureSkipVerify: true},
		"http/1.1":     {InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}},
		"TLS 1.2":      {InsecureSkipVerify: true, NextProtos: []string{Protocol}, MaxVersion: tls.VersionTLS12},
	} {
		c, err := tls.Dial("tcp", address, s)
		if err != nil {
			continue
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("%s: got %q", name, got)
		}
		c.Close()
	}
	for name, hello := range map[string][]byte{
		"data first":    frame(nil, frameData, []byte("GET /")),
		"short nonce":   frame(nil, frameChallenge, make([]byte, 16)),
		"another kind":  frame(nil, 9, []byte("x")),
		"tree unasked":  frame(nil, frameTree, []byte("{}")),
		"report":        frame(nil, frameReport, make([]byte, standSize+2)),
		"lacking":       nothing,
		"logs":          frame(nil, frameLogs, make([]byte, 4)),
		"half a nonce":  frame(nil, frameChallenge, make([]byte, nonceSize))[:20],
		"large and bad": {byte(frameTree), 255, 255, 255, 255},
	} {
		c := raw(t, address, ours())
		c.Write(hello)
		c.CloseWrite()
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestResumedSessionsAreRefused(t *testing.T) {
	s := tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13, NegotiatedProtocol: Protocol}
	if err := fresh(s); err != nil {
		t.Error(err)
	}
	s.DidResume = true
	if fresh(s) == nil {
		t.Error("a resumed session is taken")
	}
	cache := tls.NewLRUClientSessionCache(4)
	for range 3 {
		d := ours()
		d.ClientSessionCache = cache
		c := raw(t, server1(t), d)
		c.Write(frame(nil, frameChallenge, make([]byte, nonceSize)))
		if _, _, err := readFrame(c); err != nil {
			t.Fatal(err)
		}
		if _, ok := cache.Get(""); ok || c.ConnectionState().DidResume {
			t.Error("the server gave a ticket")
		}
	}
}

func TestMutual(t *testing.T) {
	address, refused := serving(t, Server{Prover: tree.NewProver(&container{name: "a"}), Appraiser: only("b")})
	b := &Dialer{Appraiser: only("a"), Prover: tree.NewProver(&container{name: "b"})}
	if text, err := greeted(t, b, address); err != nil || text != greeting {
		t.Fatalf("%q, %v", text, err)
	}
	for name, d := range map[string]*Dialer{
		"of another container": {Appraiser: only("a"), Prover: tree.NewProver(&container{name: "c"})},
		"without evidence":     {Appraiser: only("a")},
	} {
		if text, err := greeted(t, d, address); err == nil {
			t.Errorf("%s: got %q", name, text)
		}
		if err := <-refused; err == nil {
			t.Error("no reason")
		}
	}
}

// A server that isn't the right one gets no evidence of the client.
func TestServerComesFirst(t *testing.T) {
	d := &container{name: "b"}
	address, _ := serving(t, Server{Prover: tree.NewProver(&container{name: "x"}), Appraiser: only("b")})
	if _, err := greeted(t, &Dialer{Appraiser: only("a"), Prover: tree.NewProver(d)}, address); err == nil || d.asked() != 0 {
		t.Errorf("%v; the client's evidence was made %d times", err, d.asked())
	}
}

// Listeners take connections again after a passing error, and stop at others.
func TestAcceptFails(t *testing.T) {
	below := &failing{errors: make(chan error, 2)}
	l, err := Server{Prover: tree.NewProver(&container{})}.Listen(below)
	if err != nil {
		t.Fatal(err)
	}
	below.errors <- fmt.Errorf("accept: %w", exhaustion)
	below.errors <- errRefused
	if _, err := l.Accept(); !errors.Is(err, errRefused) {
		t.Errorf("err = %v", err)
	}
	l.Close()
}

type failing struct {
	net.Listener
	errors chan error
}

func (f *failing) Accept() (net.Conn, error) { return nil, <-f.errors }
func (f *failing) Close() error              { return nil }

// At most so many sessions wait; the next one is closed at once.
func TestWaitingIsBounded(t *testing.T) {
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 8)
	l, err := Server{Prover: tree.NewProver(&container{}), Refused: func(_ net.Addr, err error) { refused <- err }}.Listen(below)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range cap(l.waiting) {
		l.waiting <- struct{}{}
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-refused; !strings.Contains(err.Error(), "too many") {
		t.Error(err)
	}
	for range cap(l.waiting) {
		<-l.waiting
	}
}
