// Package server answers: who is answered, and what may it cost us?
//
// It serves JSON-RPC 2.0 on a Unix stream socket, one object per line, with a
// bound on everything that a caller controls: the length of a line, the requests
// in flight, the connections, the bytes of replies that the caller does not
// read, and the time for each. cima-api(7) is the specification of the wire. The
// Server's owner decides who a caller is (Attach), whether it may ask (Before)
// and what it is answered (Methods).
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cima-project/cima/rpc"
)

// attachTime is how long Attach may take.
const attachTime = 5 * time.Second

// Server answers connections. Its exported members are set before Serve and
// not changed afterwards.
type Server struct {
	// Methods is every method there is on this socket.
	Methods []Method

	// Limits bound what callers can do.
	Limits Limits

	// Attach is called once for each connection, before anything is read:
	// it says who is calling. attached is what handlers' contexts are made
	// of; release, where it is not nil, is called when the connection is
	// over and no handler runs any more. An error is the answer to every
	// request of that connection; attached may be nil then. ctx has a
	// deadline; attached must not be made of it, but of its values
	// (context.WithoutCancel does that).
	Attach func(ctx context.Context, conn *net.UnixConn) (attached context.Context, release func(), err error)

	// Key names the caller that a connection is charged to, from the
	// context that Attach made. "" is charged to nobody.
	Key func(ctx context.Context) string

	// Before is called before each request is answered; its error is the
	// answer. A rate limit and a check that the caller still lives belong
	// here. method is "" where there is no such one, or a line was no
	// request. Where Attach refused the caller, ctx is what came with that,
	// or Serve's.
	Before func(ctx context.Context, method string) error

	// After is called when a request has its answer: refused is what the
	// caller is told, nil where it gets a result; cause is what the journal
	// should hold beyond that, nil where nothing is left out: the error of
	// a handler that is no *Error, or a *PanicError. method is "" where a
	// line was no request.
	After func(ctx context.Context, method string, took time.Duration, refused *rpc.Error, cause error)

	once      sync.Once
	limits    Limits
	methods   map[string]*Method
	callers   callers
	attaching chan struct{}
	writing   chan struct{} // a token for each result that is made a reply
	draining  atomic.Bool
	running   sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func (s *Server) setUp() {
	s.limits = s.Limits.withDefaults()
	s.methods = make(map[string]*Method, len(s.Methods))
	for i := range s.Methods {
		s.methods[s.Methods[i].Name] = &s.Methods[i]
	}
	s.callers = callers{limits: &s.limits, byKey: make(map[string]*caller), holds: make(map[*hold]struct{})}
	s.attaching = make(chan struct{}, s.limits.Attaching)
	s.writing = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	s.conns = make(map[*conn]struct{})
}

// Counts are the server's own figures.
func (s *Server) Counts() rpc.Counts {
	s.once.Do(s.setUp)
	return s.callers.counts()
}

// Serve answers connections to l until ctx ends; then it closes l, lets
// requests that were read finish within Limits.Drain, answers others with
// CodeShuttingDown, closes all connections and returns nil. A listener that
// fails for good is an error. Serve returns when the last handler has.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.once.Do(s.setUp)
	stop := context.AfterFunc(ctx, func() {
		s.draining.Store(true)
		l.Close()
	})
	defer stop()
	err := s.accept(ctx, l)
	l.Close()
	s.drain()
	return err
}

func (s *Server) accept(ctx context.Context, l net.Listener) error {
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case err != nil && !passes(err):
			return fmt.Errorf("listener failed: %w", err)
		case err != nil:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			pause(ctx, wait)
			continue
		}
		wait = 0
		if !s.callers.admit() {
			turnAway(nc, rpc.RateLimited(time.Second, "%d connections are open, more are not taken: try again", s.limits.Connections))
			continue
		}
		s.attaching <- struct{}{} // Attach has a deadline, so this passes
		s.running.Go(func() {
			defer s.callers.leave()
			s.serve(context.WithoutCancel(ctx), nc)
		})
	}
}

// passes reports whether an error of accept(2) can go away by itself: no file
// descriptor or memory left, or a peer that has gone again.
func passes(err error) bool {
	for _, number := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EINTR, syscall.EAGAIN, syscall.EPERM} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

func pause(ctx context.Context, wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// turnAway answers a connection that nothing was built for. The line goes
// into an empty socket buffer, so it does not wait for the peer.
func turnAway(nc net.Conn, e *rpc.Error) {
	line := appendError([]byte(`{"jsonrpc":"2.0","id":null,"error":`), e)
	nc.SetWriteDeadline(time.Now().Add(time.Second))
	nc.Write(append(line, "}\n"...))
	nc.Close()
}

// serve answers one connection until it ends.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	makeRoom()
	attached, release, err := s.attach(ctx, nc)
	<-s.attaching
	if release != nil {
		defer release()
	}
	// All that nobody can name are one caller: else they were no one's.
	key := "unattributed"
	if err == nil {
		key = ""
		if s.Key != nil {
			key = s.Key(attached)
		}
	}
	charged := s.callers.enter(key)
	if charged == nil {
		turnAway(nc, rpc.RateLimited(time.Second, "this caller has %d connections open, more are not taken: close some", s.limits.CallerConnections))
		return
	}
	defer charged.leave()
	if attached == nil {
		attached = ctx
	}
	c := s.newConn(attached, nc, charged)
	if err != nil {
		c.refuse = s.refusal(attached, err)
	}
	s.run(c)
}

// makeRoom lets the goroutine's stack grow at once and while there is little on
// it: else it is copied three times on the way down to the caller's identity,
// for each connection.
//
//go:noinline
func makeRoom() {
	var room [6 << 10]byte
	runtime.KeepAlive(&room)
}

func (s *Server) newConn(ctx context.Context, nc net.Conn, charged *caller) *conn {
	c := &conn{server: s, ctx: ctx, inline: inlineContext{ctx}, framing: framing{net: nc, limits: &s.limits}}
	c.caller = hold{caller: charged, drop: c.Close}
	return c
}

// refusal is what every request of an unwelcome connection is answered.
func (s *Server) refusal(ctx context.Context, err error) *rpc.Error {
	refused, whole := rpc.WireError(err)
	if !whole && s.After != nil {
		s.After(ctx, "", 0, refused, err)
	}
	return refused
}

func (s *Server) attach(ctx context.Context, nc net.Conn) (attached context.Context, release func(), err error) {
	if s.Attach == nil {
		return ctx, nil, nil
	}
	unix, ok := nc.(*net.UnixConn)
	if !ok {
		return nil, nil, rpc.Unattributed("no Unix socket: nobody can tell who calls")
	}
	defer recovered(&err)
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	return s.Attach(ctx, unix)
}

// run answers a connection until it ends.
func (s *Server) run(c *conn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	c.serve()
	if c.channel != nil {
		c.caller.take(-c.channel.end())
	}
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.caller.take(-c.charged)
}

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// drain lets requests that were read finish, for a while, then closes all
// connections. A reader that never reads does not hold it up: the connection
// is closed under it.
func (s *Server) drain() {
	s.draining.Store(true)
	for end := time.Now().Add(s.limits.Drain); time.Now().Before(end) && s.busy(); {
		time.Sleep(5 * time.Millisecond)
	}
	gone := make(chan struct{})
	go func() {
		s.running.Wait()
		close(gone)
	}()
	for {
		// Again and again: some may still be attaching.
		s.each(func(c *conn) { c.Close() })
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *Server) busy() bool {
	busy := false
	s.each(func(c *conn) { busy = busy || c.open.Load() > 0 })
	return busy
}
