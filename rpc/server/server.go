// Package server answers: who is answered, and what may it cost us?
//
// It serves JSON-RPC 2.0 on a Unix stream socket, one object per line, and bounds
// everything that a caller controls: the length of a line, the requests in flight,
// the connections, the bytes of replies that the caller does not read, and the time
// for each. cima-api(7) specifies the wire. The owner of a Server decides who a
// caller is (Attach), whether it may ask (Before) and what it gets (Methods).
// WithDiscovery adds the method rpc.discover, whose answer package rpc/openrpc makes.
//
// The flow of a request is:
//
//	door.Door                -- a connection, if its origin makes not too many; in turn
//	* Server.attach          -- Attach: who is the caller? once for each connection
//	* conn.serve             -- the goroutine that reads the connection
//	  * framing.next         -- a line, bounded in bytes and time
//	  * requestReader.read   -- is it one call, with one meaning? if not: an error
//	  * conn.answerInline    -- Before, an inline Handler, After, the reply
//	  | or, where something must wait:
//	  * channel.forward      -- the line, to jrpc2
//	    * jrpc2              -- reads the line, finds the method
//	      * channel.handle   -- Before, Handler, After
//	    * channel.Send       -- the reply
package server

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server/door"
)

// attachTime bounds the time of Attach.
const attachTime = 5 * time.Second

// Server answers connections. Set its exported fields before Serve, and don't
// change them afterwards.
type Server struct {
	// Methods is the method table of this socket. Of two with one name the last
	// one counts.
	Methods []Method

	// Limits bound what callers can do.
	Limits Limits

	// Attach identifies the caller. It is called once for each connection,
	// before anything is read. The contexts of handlers are derived from
	// attached. release, unless it is nil, is called when the connection has
	// ended and no handler runs any more. An error is the answer to every
	// request of that connection; attached may be nil then. ctx has a
	// deadline, which attached must not have (context.WithoutCancel).
	Attach func(ctx context.Context, conn *net.UnixConn) (attached context.Context, release func(), err error)

	// Key names the caller that pays for a connection, from the context that
	// Attach made, also where Attach returned an error. For "" nobody pays.
	Key func(ctx context.Context) string

	// Origin names where a connection comes from, before it is known who calls
	// (door.Door). nil: connections have no rate, and nobody is kept from filling all
	// places. A server with callers that don't trust each other has one.
	Origin func(socket int) (name string, ok bool)

	// Before is called before each request is answered; its error is the
	// answer. A rate limit and a check that the caller still lives belong
	// here. It must not wait. method is "" if there is no such method, or if
	// the line was no request. Where Attach returned an error, ctx is the
	// context that came with it, or that of Serve.
	Before func(ctx context.Context, method string) error

	// After is called when a request has its answer, and before the answer is
	// written. refused is the error that the caller gets, nil if it gets a
	// result. cause is what the caller does not see and the journal should: the
	// error of a handler that is no *rpc.Error, or a panic with its stack; else
	// nil. method is as in Before.
	After func(ctx context.Context, method string, took time.Duration, refused *rpc.Error, cause error)

	once     sync.Once
	limits   Limits
	methods  map[string]*Method
	folded   map[string]string // the methods' names by rpc.FoldMethod
	callers  callers
	draining atomic.Bool
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func (s *Server) setUp() {
	s.limits = s.Limits.withDefaults()
	s.methods, s.folded = make(map[string]*Method, len(s.Methods)), make(map[string]string, len(s.Methods))
	for i := range s.Methods {
		s.methods[s.Methods[i].Name] = &s.Methods[i]
		s.folded[rpc.FoldMethod(s.Methods[i].Name)] = s.Methods[i].Name
	}
	s.callers = callers{limits: &s.limits, byKey: make(map[string]*caller), holds: make(map[*hold]struct{}), unanswered: make(chan struct{}, 4*s.limits.CallerInFlight)}
	s.conns = make(map[*conn]struct{})
}

// meant proposes the method that has the name in another spelling, as CIMA 0.5 had it.
func (s *Server) meant(name []byte) string {
	if len(name) <= 64 { // no method's name is longer
		if meant := s.folded[rpc.FoldMethod(string(name))]; meant != "" {
			return ": did you mean " + meant + "?"
		}
	}
	return ""
}

// Counts returns the figures of the server.
func (s *Server) Counts() rpc.Counts {
	s.once.Do(s.setUp)
	return s.callers.counts()
}

// Serve answers connections to l until ctx ends. Then it closes l, lets requests
// that were read finish within Limits.Drain, answers others with
// rpc.CodeShuttingDown, closes all connections and returns nil. It returns an error
// if the listener fails for good. It returns after the last handler.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.once.Do(s.setUp)
	stop := context.AfterFunc(ctx, func() {
		s.draining.Store(true)
		l.Close()
	})
	defer stop()
	err := s.door(context.WithoutCancel(ctx)).Serve(ctx, l)
	l.Close()
	s.drain()
	return err
}

// door takes the connections that s.serve answers with contexts below ctx.
func (s *Server) door(ctx context.Context) *door.Door {
	return &door.Door{
		Origin: s.Origin, Rate: s.limits.Connects, Burst: s.limits.ConnectBurst,
		Slots: s.limits.Attaching, Share: max(1, s.limits.Attaching/8), Waiting: s.limits.CallerConnections,
		Admit: s.callers.admit, Leave: s.callers.leave,
		Take: func(nc net.Conn, identified func()) {
			defer s.callers.leave()
			s.serve(ctx, nc, identified)
		},
		Go:       s.running.Go,
		Refused:  func() { s.callers.refused.Add(1) },
		TurnAway: s.turnAway,
	}
}

func (s *Server) turnAway(nc net.Conn, why door.Reason) {
	e := rpc.RateLimited(time.Second, "%d connections are open, more are not taken: try again", s.limits.Connections)
	switch why {
	case door.TooMany:
		e = rpc.RateLimited(time.Second, "this caller has %d connections that wait, more are not taken: try again", s.limits.CallerConnections)
		s.callers.refused.Add(1)
	case door.TooFast:
		e = rpc.RateLimited(time.Second, "this caller connects more than %g times a second: keep a connection, and try again", s.limits.Connects)
		s.callers.refused.Add(1)
	}
	turnAway(nc, e)
}

// turnAway answers a connection that is over a limit. The line goes into an empty
// socket buffer, so writing it does not wait for the peer.
func turnAway(nc net.Conn, e *rpc.Error) {
	line := appendError([]byte(`{"jsonrpc":"2.0","id":null,"error":`), e)
	nc.SetWriteDeadline(time.Now().Add(time.Second))
	nc.Write(append(line, "}\n"...))
	nc.Close()
}

// serve answers one connection until it ends.
func (s *Server) serve(ctx context.Context, nc net.Conn, identified func()) {
	defer nc.Close()
	growStack()
	attached, release, err := s.attach(ctx, nc)
	identified()
	if release != nil {
		defer release()
	}
	key := ""
	if s.Key != nil && attached != nil {
		key = s.Key(attached)
	}
	if err != nil && key == "" {
		// All callers that have no name share one: otherwise nobody would pay for them.
		key = "unattributed"
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

// growStack lets the goroutine's stack grow at once and while there is little on
// it. Otherwise, for each connection, the stack is copied three times on the way
// down to the caller's identity.
//
//go:noinline
func growStack() {
	var frame [6 << 10]byte
	runtime.KeepAlive(&frame)
}

func (s *Server) newConn(ctx context.Context, nc net.Conn, charged *caller) *conn {
	c := &conn{server: s, ctx: ctx, inline: inlineContext{ctx}, framing: framing{net: nc, limits: &s.limits}}
	c.caller = hold{caller: charged, drop: c.Close}
	return c
}

// refusal is the answer to every request of a connection that Attach refused.
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
		c.caller.charge(-c.channel.end())
	}
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.caller.charge(-c.charged)
}

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// drain lets requests that were read finish, within Limits.Drain. Then each
// connection is closed by the goroutine that reads it, after the answers to the lines
// that it has read. A caller that does not read its replies does not delay that: its
// connection is closed at the end of Limits.Drain.
func (s *Server) drain() {
	s.draining.Store(true)
	end := time.Now().Add(s.limits.Drain)
	for time.Now().Before(end) && s.busy() {
		time.Sleep(5 * time.Millisecond)
	}
	gone := make(chan struct{})
	go func() {
		s.running.Wait()
		close(gone)
	}()
	for {
		// Again and again: some connections may still be in Attach.
		s.each(func(c *conn) {
			c.stop()
			if !time.Now().Before(end) {
				c.Close()
			}
		})
		select {
		case <-gone:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *Server) busy() bool {
	busy := false
	s.each(func(c *conn) { busy = busy || c.open.Load() > 0 })
	return busy
}
