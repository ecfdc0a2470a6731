package atls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// carrier is the connection that carries a session. It notes its end: crypto/tls reads the
// end of the connection between two records as the other end's close_notify (RFC 8446,
// section 6.1), so that whoever is on the way could cut a session off, and what came would
// pass for all there is.
type carrier struct {
	net.Conn
	ended atomic.Bool
}

// Read is the connection's. TLS doesn't read on behind a close_notify.
func (c *carrier) Read(to []byte) (int, error) {
	n, err := c.Conn.Read(to)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}

// wasCut reports whether a session's connection ended before the session did.
func wasCut(session *tls.Conn) bool {
	c, ours := session.NetConn().(*carrier)
	return ours && c.ended.Load()
}
