package atls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/cima-project/cima/rpc/tree"
)

// Dialer makes sessions with attested servers. Its DialContext fits an http.Transport's
// DialTLSContext, and also its DialContext for URLs that begin with http://. It keeps the logs
// of servers that were appraised well, so that these send them once: use one for many sessions.
type Dialer struct {
	// Appraiser decides on the server's evidence. It must be there.
	Appraiser Appraiser

	// Prover proves this end to servers that ask; nil leaves such servers.
	Prover *tree.Prover

	// Config holds certificates of this end, for servers that want some, and roots, if
	// the server's certificate shall be checked, too; nil means neither.
	Config *tls.Config

	// Net connects; its zero value is ready.
	Net net.Dialer

	divider divider
	known   known // of servers
}

// DialContext returns a session with a server whose evidence was appraised, a *Conn.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := d.Net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c, err := d.Client(ctx, nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("attested TLS with %s: %w", address, err)
	}
	return c, nil
}

// Client makes a session over a connection that exists.
func (d *Dialer) Client(ctx context.Context, nc net.Conn) (*Conn, error) {
	if d.Appraiser == nil {
		return nil, errors.New("a Dialer must have an Appraiser")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*proveTime)
	defer cancel()
	session := tls.Client(&carrier{Conn: nc}, settings(d.Config, client))
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	c := newConn(session, client, means{d.Prover, d.Appraiser, &d.divider, &d.known, nil})
	if err := c.open(ctx); err != nil {
		return nil, c.end(err)
	}
	return c, nil
}

// settings are a program's with what the protocol demands.
func settings(of *tls.Config, r role) *tls.Config {
	s := new(tls.Config)
	if of != nil {
		s = of.Clone()
	}
	s.MinVersion, s.MaxVersion = tls.VersionTLS13, 0
	s.NextProtos = []string{Protocol}
	s.SessionTicketsDisabled, s.ClientSessionCache = true, nil
	s.GetConfigForClient = nil // would get around these
	if r == client && s.RootCAs == nil {
		// The evidence says who it is; the certificate says nothing.
		s.InsecureSkipVerify = true
	}
	return s
}
