package atls

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

// Listener takes sessions in which this process's container proved itself.
type Listener struct {
	settings  Server
	below     net.Listener
	tls       *tls.Config
	ready     chan *Conn
	waiting   chan struct{} // has a place for each session that isn't ready
	ctx       context.Context
	stop      context.CancelFunc
	failed    error // why below takes no more; read after done
	done      chan struct{}
	handshake sync.WaitGroup
	divider   divider
	known     known // of clients
	room      room  // for their evidence
}

// Server says how sessions are taken.
type Server struct {
	// Prover proves this container. It must be there.
	Prover *tree.Prover

	// Appraiser decides on clients' evidence; nil asks for none.
	Appraiser Appraiser

	// Config holds a certificate, if clients want to know one, and whose clients'
	// certificates are taken; nil means a key of this process's own and any client.
	Config *tls.Config

	// Refused is told why a session failed, and about whom; nil tells nobody. Clients
	// aren't told.
	Refused func(from net.Addr, err error)

	between time.Duration // a test's own; 0 means the usual
	room    int           // the same
}

// Listen takes sessions over a listener's connections.
func (s Server) Listen(below net.Listener) (*Listener, error) {
	if s.Prover == nil {
		return nil, errors.New("attested TLS: a Server must have a Prover")
	}
	l := &Listener{settings: s, below: below, tls: settings(s.Config, server), ready: make(chan *Conn),
		waiting: make(chan struct{}, rpc.MaxShared), done: make(chan struct{})}
	if len(l.tls.Certificates) == 0 && l.tls.GetCertificate == nil {
		own, err := ownCertificate()
		if err != nil {
			return nil, err
		}
		l.tls.Certificates = []tls.Certificate{own}
	}
	l.room.left = cmp.Or(s.room, maxUnjudged)
	l.ctx, l.stop = context.WithCancel(context.Background())
	go l.run()
	return l, nil
}

// ownCertificate has a key of this process, in no file. Nobody needs to trust it.
func ownCertificate() (own tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return own, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: Protocol}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (l *Listener) run() {
	defer close(l.done)
	for {
		nc, err := l.below.Accept()
		var passing net.Error
		switch {
		case err == nil:
			l.begin(nc)
		case l.ctx.Err() == nil && errors.As(err, &passing) && passing.Timeout():
		case l.ctx.Err() == nil && exhausted(err):
			// Descriptors are short: those that wait give some back.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-l.ctx.Done():
			}
		default:
			l.failed = err
			l.stop()
			return
		}
	}
}

// begin attests in a goroutine, if there is a place.
func (l *Listener) begin(nc net.Conn) {
	select {
	case l.waiting <- struct{}{}:
	default:
		l.refuse(nc, errors.New("too many sessions wait for evidence"))
		return
	}
	l.handshake.Go(func() {
		c, err := l.attest(nc)
		<-l.waiting
		if err != nil {
			l.refuse(nc, err)
			return
		}
		select {
		case l.ready <- c:
		case <-l.ctx.Done():
			c.Close()
		}
	})
}

func (l *Listener) refuse(nc net.Conn, err error) {
	nc.Close()
	if l.settings.Refused != nil && l.ctx.Err() == nil {
		l.settings.Refused(nc.RemoteAddr(), err)
	}
}

func (l *Listener) attest(nc net.Conn) (*Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, helloTime+2*proveTime)
	defer cancel()
	if err := nc.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return nil, err
	}
	session := tls.Server(&carrier{Conn: nc}, l.tls)
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if err := fresh(session.ConnectionState()); err != nil {
		return nil, err // refuse closes it
	}
	c := newConn(session, server, means{l.settings.Prover, l.settings.Appraiser, &l.divider, &l.known, &l.room})
	c.between = cmp.Or(l.settings.between, between)
	if err := c.open(ctx); err != nil {
		return nil, c.end(err)
	}
	return c, nil
}

// Accept returns the next session, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		<-l.done
		if l.failed != nil && !errors.Is(l.failed, net.ErrClosed) {
			return nil, l.failed
		}
		return nil, net.ErrClosed
	}
}

// Close takes no more sessions, and ends those that aren't attested yet.
func (l *Listener) Close() error {
	l.stop()
	err := l.below.Close()
	<-l.done
	l.handshake.Wait()
	return err
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.below.Addr() }
