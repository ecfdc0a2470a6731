package atls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A session that somebody cuts off between two records, or that the other end refuses,
// doesn't read as one that has ended in order.
func TestCutOff(t *testing.T) {
	for name, end := range map[string]struct {
		ends func(*Conn) error
		want error
	}{
		"the other end ends it":        {(*Conn).Close, io.EOF},
		"the other end writes no more": {(*Conn).CloseWrite, io.EOF},
		"somebody cuts it off":         {func(c *Conn) error { return c.tls.NetConn().Close() }, io.ErrUnexpectedEOF},
		"the other end refuses":        {func(c *Conn) error { c.end(errRefused); return nil }, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			one, err := ownCertificate()
			if err != nil {
				t.Fatal(err)
			}
			s := settings(&tls.Config{Certificates: []tls.Certificate{one}}, server)
			a := newConn(tls.Server(&carrier{Conn: far}, s), server, means{})
			b := newConn(tls.Client(&carrier{Conn: near}, settings(nil, client)), client, means{})
			near.SetDeadline(time.Now().Add(time.Minute))
			over := make(chan error, 1)
			go func() {
				_, err := io.WriteString(a, "all there is?")
				over <- errors.Join(err, end.ends(a))
			}()
			got, err := io.ReadAll(b)
			if string(got) != "all there is?" || end.want == io.EOF && err != nil || end.want != io.EOF && !errors.Is(err, end.want) {
				t.Errorf("%q, %v, want %v", got, err, end.want)
			}
			if err := <-over; err != nil {
				t.Error(err)
			}
		})
	}
}
