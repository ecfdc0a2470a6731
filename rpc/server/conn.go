package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/creachadair/jrpc2"

	"github.com/cima-project/cima/rpc"
)

// maxBad is how many lines that are no request a connection may send before
// it is dropped, together with requests that could have no result and were
// beyond the caller's rate.
const maxBad = 16

// errDropped ends a connection that broke a limit.
var errDropped = errors.New("connection dropped")

// A conn is one connection, as its jrpc2 server sees it: a channel.Channel
// that gives one call at a time and takes one answer for each, and the
// Assigner of all of them. Lines that are no call are answered here, and calls
// that need no wait while no other is under way.
//
// jrpc2 parses what Recv gives it with encoding/json, and marshals and copies
// what handlers return. Both are kept small: it gets the number of a call and
// its method, and gives back the number; request and reply lie in the call.
type conn struct {
	framing
	server *Server
	ctx    context.Context // what Attach made
	refuse *rpc.Error      // what Attach said: the answer to everything
	handle jrpc2.Handler   // c.answer

	// For who reads alone: run, then jrpc2's Recv.
	now     call   // that is answered at once
	first   *call  // that was read before jrpc2 began
	message []byte // what jrpc2 gets of a call

	bad atomic.Int32 // lines that were no request, and requests that nobody may make beyond the rate

	unanswered atomic.Int32 // calls that jrpc2 has not answered

	mu    sync.Mutex
	calls []*call // by number
	free  []*call // the one used last is at the end
}

// Assign gives jrpc2 the handler of every method, unknown ones too.
func (c *conn) Assign(context.Context, string) jrpc2.Handler { return c.handle }

const (
	beforeNumber = `{"jsonrpc":"2.0","id":` // in a request and in a response
	beforeMethod = `,"method":"`
)

// Recv returns the next call for jrpc2, valid until the next Recv.
func (c *conn) Recv() ([]byte, error) {
	call := c.first
	if c.first = nil; call == nil {
		var err error
		if call, err = c.nextCall(); err != nil {
			return nil, err
		}
	}
	return c.numberedMessage(call), nil
}

// nextCall reads up to the next call that is for jrpc2, and answers what comes
// before it.
func (c *conn) nextCall() (*call, error) {
	for c.bad.Load() < maxBad {
		line, err := c.next()
		if err != nil {
			return nil, c.end(err)
		}
		c.open.Add(1)
		request, bad := parseRequest(line)
		admitted := false
		switch {
		case bad != nil:
			c.bad.Add(1)
			c.refusal(request.id, c.within(bad))
		case c.server.draining.Load():
			c.refusal(request.id, rpc.ShuttingDown())
		case c.answered(request, &admitted):
		case int(c.unanswered.Add(1)) > c.limits.InFlight:
			return nil, c.drop(rpc.RateLimited(time.Second, "at most %d requests are sent ahead of their answers: connection closed", c.limits.InFlight))
		default:
			if call := c.begin(request); call != nil {
				call.admitted = admitted
				return call, nil
			}
			c.unanswered.Add(-1)
			c.refusal(request.id, rpc.RateLimited(time.Second, "too many long lines at once: wait for answers, then ask again"))
		}
		c.open.Add(-1)
	}
	c.settle()
	c.server.callers.dropped.Add(1)
	return nil, errDropped // each line was answered already
}

// answered answers a request in this goroutine if it can be answered at once,
// nothing else of this connection is under way, and nothing was sent ahead of
// the answer: that is what jrpc2 is for. If not, admitted says whether Before
// let it pass.
func (c *conn) answered(r request, admitted *bool) bool {
	known := c.server.methods[string(r.method)]
	if c.open.Load() > 1 || c.from != c.to || known.handler != nil && known.atOnce == nil && c.refuse == nil {
		return false
	}
	c.now.request, c.now.known, c.now.admitted = r, known, false // it still lies in the line
	done := c.carryOut(c.ctx, &c.now, true)
	if done && c.write(c.now.reply.buf.Bytes()) != nil {
		c.Close()
	}
	*admitted = c.now.admitted
	c.caller.giveBack(c.now.charged)
	c.now.charged, c.now.request = 0, request{}
	c.now.reply.reset()
	return done
}

// numberedMessage is what jrpc2 gets of a call. A method that there is not has
// no name: its own could be long, and jrpc2 has no use for it.
func (c *conn) numberedMessage(call *call) []byte {
	name := call.known.name
	if name == "" {
		name = "?"
	}
	m := strconv.AppendInt(append(c.message[:0], beforeNumber...), int64(call.number), 10)
	m = append(append(m, beforeMethod...), name...)
	c.message = append(m, `"}`...)
	return c.message
}

// Send writes the answer that lies in the call whose number message has.
func (c *conn) Send(message []byte) error {
	call := c.named(message)
	if call == nil {
		c.Close()
		return fmt.Errorf("jrpc2 answers no call: %q", shortened(message))
	}
	// Before the answer can be read: whoever has it may ask anew at once.
	c.unanswered.Add(-1)
	if call.reply.buf.Len() == 0 { // an error of jrpc2's: the connection is over
		call.reply.refusal(call.id, rpc.ShuttingDown())
	}
	err := c.write(call.reply.buf.Bytes())
	c.giveBack(call)
	c.open.Add(-1)
	if err != nil {
		c.Close()
	}
	return err
}

// named finds the call of a response.
func (c *conn) named(message []byte) *call {
	rest, ok := bytes.CutPrefix(message, []byte(beforeNumber))
	digits, _, _ := bytes.Cut(rest, []byte(","))
	number, err := strconv.Atoi(string(digits))
	if !ok || err != nil {
		return nil
	}
	return c.numbered(number)
}

// Close ends the connection, and whatever waits for its peer.
func (c *conn) Close() error { return c.net.Close() }

// drop tells the caller which limit it broke, and nothing behind that.
func (c *conn) drop(e *rpc.Error) error {
	c.server.callers.dropped.Add(1)
	c.last(c.refused(nil, e))
	return errDropped
}

// end turns an error of reading into the connection's end. Who has only
// closed its writing half still gets its answers, and who broke a limit is
// told so behind them.
func (c *conn) end(err error) error {
	var e *rpc.Error
	switch {
	case errors.As(err, &e):
		c.settle()
		return c.drop(e)
	case errors.Is(err, io.EOF):
		c.settle()
	}
	return err
}

// settle waits until all is answered or the peer has hung up.
func (c *conn) settle() {
	for wait := time.Millisecond; c.open.Load() > 0 && !peerGone(c.net); wait = min(2*wait, 100*time.Millisecond) {
		time.Sleep(wait)
	}
}

// within is what a line that is no request is answered: it counts against the
// caller's rate as requests do.
func (c *conn) within(bad *rpc.Error) (refused *rpc.Error) {
	if c.server.Before == nil {
		return bad
	}
	err := c.before(c.ctx, "")
	if err == nil {
		return bad
	}
	refused, _ = rpc.WireError(err)
	return refused
}

func (c *conn) before(ctx context.Context, method string) (err error) {
	defer recovered(&err)
	return c.server.Before(ctx, method)
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
