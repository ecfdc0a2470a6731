package server

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cima-project/cima/rpc"
)

// maxBad is how many lines that are no request a connection may send before
// it is dropped, together with requests that could have no result and were
// beyond the caller's rate.
const maxBad = 16

// errDropped ends a connection that broke a limit.
var errDropped = errors.New("connection dropped")

// A conn is one connection. One goroutine reads it: it answers lines that are no
// request, and inline methods while nothing else of the connection is under way;
// all other lines go to jrpc2.
type conn struct {
	framing
	server *Server
	ctx    context.Context // what Attach made
	inline inlineContext   // the same, for inline handlers
	refuse *rpc.Error      // what Attach returned: the answer to everything

	// For the goroutine that reads.
	requests requestReader
	now      call     // that is answered inline
	channel  *channel // nil until a line goes to jrpc2
	bad      int      // lines that were no request, and requests that nobody may make beyond the rate
}

// serve answers lines until the connection ends. What waits is still under way then.
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

// answer answers a line; false where jrpc2 will.
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

// answerInline answers a request in this goroutine if that takes no waiting,
// nothing else of this connection is under way and nothing was sent ahead of the
// answer: such requests are for jrpc2. Where nobody may ask, or there is no such
// method, that doesn't matter. admitted reports whether Before let it pass.
func (c *conn) answerInline(r request) (done, admitted bool) {
	method := c.server.methods[string(r.method)]
	if method != nil && c.refuse == nil && (!method.Inline || c.open.Load() > 1 || c.from != c.to) {
		return false, false
	}
	call := &c.now
	call.id, call.admitted = r.id, false // it still lies in the line
	done = c.carryOutInline(call, method, r)
	if done && c.write(call.reply.buf.Bytes()) != nil {
		c.Close()
	}
	c.caller.giveBack(call.charged)
	call.id, call.charged = nil, 0
	call.reply.reset()
	return done, call.admitted
}

// forward gives a line to jrpc2.
func (c *conn) forward(line []byte, r request, admitted bool) (done bool, err error) {
	if c.channel == nil {
		c.channel = startChannel(c)
	}
	if int(c.channel.unanswered.Add(1)) > c.limits.InFlight {
		return false, c.drop(rpc.RateLimited(time.Second, "at most %d requests are sent ahead of their answers: connection closed", c.limits.InFlight))
	}
	call := c.begin(line, r.id)
	if call == nil {
		c.channel.unanswered.Add(-1)
		c.refusal(r.id, rpc.RateLimited(time.Second, "too many long lines at once: wait for answers, then ask again"))
		return true, nil
	}
	call.admitted = admitted
	c.channel.forward(call)
	return false, nil
}

// Close ends the connection, and whatever waits for its peer.
func (c *conn) Close() error { return c.net.Close() }

// drop tells the caller which limit it broke, and nothing behind that.
func (c *conn) drop(e *rpc.Error) error {
	c.server.callers.dropped.Add(1)
	c.last(c.refused(nil, e))
	return errDropped
}

// end turns an error of reading into the connection's end. A caller that has only
// closed its writing half still gets its answers, and a caller that broke a limit
// is told so behind them.
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

// drain waits until all is answered or the peer has hung up.
func (c *conn) drain() {
	for wait := time.Millisecond; c.open.Load() > 0 && !peerGone(c.net); wait = min(2*wait, 100*time.Millisecond) {
		time.Sleep(wait)
	}
}

// limited is the answer to a line that is no request: it counts against the
// caller's rate as requests do.
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

// refusal answers a line that is no call; id is nil where it has none.
func (c *conn) refusal(id []byte, e *rpc.Error) {
	if c.write(c.refused(id, e)) != nil {
		c.Close()
	}
}

// refused is the line of a refusal, and tells After of it.
func (c *conn) refused(id []byte, e *rpc.Error) []byte {
	if c.server.After != nil {
		c.server.After(c.ctx, "", 0, e, nil)
	}
	var r reply
	r.refusal(id, e)
	return r.buf.Bytes()
}
