package server

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cima-project/cima/rpc"
)

// maxBad is how many lines that are no request a connection may send before it is
// dropped. Requests that can have no result count too if they are beyond the
// caller's rate.
const maxBad = 16

// errDropped ends a connection that broke a limit.
var errDropped = errors.New("connection dropped")

// errGone ends a connection whose peer hung up.
var errGone = errors.New("the peer has gone")

// A conn is one connection. One goroutine reads it: it answers lines that are no
// request, and inline methods while nothing else of the connection is under way;
// all other lines go to jrpc2.
type conn struct {
	framing
	server *Server
	ctx    context.Context // what Attach made
	inline inlineContext   // the same, for inline handlers
	refuse *rpc.Error      // of Attach: the answer to every request

	// For the goroutine that reads.
	requests requestReader
	now      call     // the one that is answered inline
	channel  *channel // nil until a line goes to jrpc2
	bad      int      // see maxBad
}

// serve answers lines until the connection ends. Calls that jrpc2 has may still run
// then.
func (c *conn) serve() error {
	for c.bad < maxBad {
		line, err := c.next()
		if err != nil {
			return c.end(err)
		}
		c.open.Add(1)
		done, err := c.answer(line)
		if err != nil {
			return err
		}
		if done {
			c.open.Add(-1)
		}
	}
	c.drain()
	c.server.callers.dropped.Add(1)
	return errDropped // each line was answered already
}

// answer answers a line, or gives it to jrpc2: then done is false.
func (c *conn) answer(line []byte) (done bool, err error) {
	request, bad := c.requests.read(line)
	switch {
	case bad != nil:
		c.bad++
		c.refusal(request.id, c.limited(bad))
		return true, nil
	case c.server.draining.Load():
		c.refusal(request.id, rpc.ShuttingDown())
		return true, nil
	}
	done, admitted := c.answerInline(request)
	if done {
		return true, nil
	}
	return c.forward(line, request, admitted)
}

// answerInline answers a request in this goroutine, if its method is inline, no call
// of this connection is under way, and no line was sent ahead of the answer. A
// request that must be refused, of a caller that Attach refused or for a method that
// there is not, is always answered here. admitted is whether Before has accepted it.
func (c *conn) answerInline(r request) (done, admitted bool) {
	method := c.server.methods[string(r.method)]
	if method != nil && c.refuse == nil && (!method.Inline || c.open.Load() > 1 || c.from != c.to) {
		return false, false
	}
	call := &c.now
	call.id, call.admitted = r.id, false // the id is still in the line
	done = c.carryOutInline(call, method, r)
	if done && c.write(call.reply.buf.Bytes()) != nil {
		c.Close()
	}
	c.caller.refund(call.charged)
	call.id, call.charged = nil, 0
	call.reply.reset()
	return done, call.admitted
}

// forward gives a line to jrpc2.
func (c *conn) forward(line []byte, r request, admitted bool) (done bool, err error) {
	if c.channel == nil {
		c.channel = startChannel(c)
	}
	// A caller that sends too many requests ahead of their answers is slowed: nothing more
	// is read until one of them is answered.
	places, ok := c.channel.enter()
	if !ok {
		return false, errGone
	}
	call := c.newCall(line, r.id)
	if call == nil {
		leave(places)
		c.refusal(r.id, rpc.RateLimited(time.Second, "too many long lines at once: wait for answers, then ask again"))
		return true, nil
	}
	call.admitted, call.places = admitted, places
	c.channel.forward(call)
	return false, nil
}

// enter takes one of places as soon as there is one, false if the peer is gone before.
func (c *conn) enter(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case places <- struct{}{}:
			return true
		case <-look.C:
			if peerGone(c.net) {
				return false
			}
		}
	}
}

// Close ends the connection, and whatever waits for its peer.
func (c *conn) Close() error { return c.net.Close() }

// drop writes which limit the caller broke, and closes the connection.
func (c *conn) drop(e *rpc.Error) error {
	c.server.callers.dropped.Add(1)
	c.last(c.refused(nil, e))
	return errDropped
}

// end ends the connection after an error of reading. A caller that has closed only
// its writing half still gets its answers. A caller that broke a limit gets an error
// after them.
func (c *conn) end(err error) error {
	var e *rpc.Error
	switch {
	case errors.As(err, &e):
		c.drain()
		return c.drop(e)
	case errors.Is(err, io.EOF):
		c.drain()
	}
	return err
}

// drain waits until all calls are answered or the peer has hung up.
func (c *conn) drain() {
	for wait := time.Millisecond; c.open.Load() > 0 && !peerGone(c.net); wait = min(2*wait, 100*time.Millisecond) {
		time.Sleep(wait)
	}
}

// limited is the answer to a line that is no request. Such a line counts against the
// caller's rate as a request does.
func (c *conn) limited(bad *rpc.Error) (refused *rpc.Error) {
	if c.server.Before == nil {
		return bad
	}
	err := c.before("")
	if err == nil {
		return bad
	}
	refused, _ = rpc.WireError(err)
	return refused
}

func (c *conn) before(method string) (err error) {
	defer recovered(&err)
	return c.server.Before(c.ctx, method)
}

// refusal answers a line that is no call; id is nil if the line has none.
func (c *conn) refusal(id []byte, e *rpc.Error) {
	if c.write(c.refused(id, e)) != nil {
		c.Close()
	}
}

// refused makes the line of a refusal, and reports it to After.
func (c *conn) refused(id []byte, e *rpc.Error) []byte {
	if c.server.After != nil {
		c.server.After(c.ctx, "", 0, e, nil)
	}
	var r reply
	r.refusal(id, e)
	return r.buf.Bytes()
}
