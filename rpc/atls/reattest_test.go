package atls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc/tree"
)

// changing is a policy that comes to refuse.
type changing struct {
	only
	refuse atomic.Bool
}

func (p *changing) Appraise(ctx context.Context, evidence, nonce, userData []byte) error {
	if p.refuse.Load() {
		return errRefused
	}
	return p.only.Appraise(ctx, evidence, nonce, userData)
}

func TestReattest(t *testing.T) {
	d := &container{name: "a"}
	address, _ := serving(t, Server{Prover: tree.NewProver(d), between: 1})
	policy := &changing{only: "a"}
	nc, err := (&Dialer{Appraiser: policy}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := nc.(*Conn)
	defer c.Close()
	if err := c.Reattest(t.Context()); err == nil || !strings.Contains(err.Error(), "at most once in 1m") {
		t.Errorf("asked again at once: %v", err)
	}
	read := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, c); read <- err }()
	c.between = 0
	if err := c.Reattest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.asked() != 2 {
		t.Errorf("the daemon was asked %d times, want 2", d.asked())
	}
	policy.refuse.Store(true)
	if err := c.Reattest(t.Context()); !errors.Is(err, errRefused) {
		t.Errorf("err = %v", err)
	}
	if err := <-read; !errors.Is(err, errRefused) {
		t.Errorf("reading ended with %v, want why the other end isn't trusted any more", err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errRefused) {
		t.Errorf("read %d bytes, %v, of an end that isn't trusted any more", n, err)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("an end that isn't trusted any more was written to")
	}
}

// A client that sends nonces faster than once a minute is thrown out, and costs no quote.
func TestNoncesAreBounded(t *testing.T) {
	d := &container{name: "a"}
	address, _ := serving(t, Server{Prover: tree.NewProver(d)})
	c := raw(t, address, ours())
	nonce := make([]byte, nonceSize)
	c.Write(frame(frame(nil, frameChallenge, nonce), frameChallenge, nonce))
	io.ReadAll(c)
	if d.asked() != 1 {
		t.Errorf("the daemon was asked %d times", d.asked())
	}
}

// Evidence that nobody asked for ends the session before it is read.
func TestUnaskedEvidence(t *testing.T) {
	address := server1(t)
	c := raw(t, address, ours())
	c.Write(frame(frame(nil, frameChallenge, make([]byte, nonceSize)), frameTree, []byte("{}")))
	if _, err := io.ReadAll(c); err != nil {
		var alert tls.AlertError
		var closed *net.OpError
		if !errors.As(err, &alert) && !errors.As(err, &closed) {
			t.Error(err)
		}
	}
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the session goes on")
	}
}
