package atls

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cima-project/cima/rpc/tree"
)

// one is a listener with one connection.
type one struct {
	net.Listener
	come chan net.Conn
}

func (o one) Accept() (net.Conn, error) {
	if nc, more := <-o.come; more {
		return nc, nil
	}
	return nil, net.ErrClosed
}

func (o one) Close() error { close(o.come); return nil }

// A client that doesn't shake hands, or sends no nonce, holds its place for 5 seconds.
func TestSilentClients(t *testing.T) {
	for name, begin := range map[string]func(net.Conn){
		"no handshake": func(net.Conn) {},
		"no nonce":     func(nc net.Conn) { tls.Client(nc, ours()).Handshake() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				below := one{come: make(chan net.Conn, 1)}
				refused := make(chan error, 1)
				l, err := Server{Prover: tree.NewProver(&container{}), Refused: func(_ net.Addr, err error) { refused <- err }}.Listen(below)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				below.come <- far
				begin(near)
				if err := <-refused; err == nil || time.Since(start) != helloTime {
					t.Errorf("refused after %v: %v", time.Since(start), err)
				}
				if _, err := near.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("the connection is open: %v", err)
				}
				l.Close()
			})
		})
	}
}
