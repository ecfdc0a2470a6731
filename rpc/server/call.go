package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/creachadair/jrpc2"

	"github.com/cima-project/cima/rpc"
)

// keptCall is how large a buffer a call keeps for the next request.
const keptCall = 256

// PanicError is what After is told of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the value; the stack is for the journal.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// A call is a request from the line that it was read from to the line that
// answers it.
type call struct {
	request         // lies in held
	number   int    // for jrpc2
	known    method // which method it is
	admitted bool   // by Server.Before
	held     []byte
	charged  int64 // for held and for the reply
	reply    reply
}

// A method is a member of Server.Methods. No handler: there is no such one.
type method struct {
	name    string
	handler Handler
	atOnce  Handler // nil: it always waits
}

// begin makes a call of a request, nil where the caller may hold no more. No
// more than one call beyond Limits.InFlight is ever made: the one whose
// answer is being written.
func (c *conn) begin(r request) *call {
	n := len(r.id) + len(r.method) + len(r.params)
	charge := int64(0)
	if n > free {
		charge = int64(n)
	}
	if !c.caller.take(charge) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) == 0 {
		c.free = append(c.free, &call{number: len(c.calls)})
		c.calls = append(c.calls, c.free[0])
	}
	call := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	call.charged = charge
	call.hold(r)
	call.known = c.server.methods[string(r.method)]
	return call
}

// hold copies a request out of the line that it was read from.
func (call *call) hold(r request) {
	id, method := len(r.id), len(r.id)+len(r.method)
	call.held = append(append(append(call.held[:0], r.id...), r.method...), r.params...)
	call.request = request{id: call.held[:id], method: call.held[id:method]}
	if r.params != nil {
		call.params = call.held[method:]
	}
}

// giveBack makes a call free for another request.
func (c *conn) giveBack(call *call) {
	c.caller.giveBack(call.charged)
	call.charged = 0
	if cap(call.held) > keptCall {
		call.held = nil
	}
	call.request = request{}
	call.reply.reset()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, call)
}

func (c *conn) numbered(number int) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number < 0 || number >= len(c.calls) {
		return nil
	}
	return c.calls[number]
}

// answer is the jrpc2.Handler of all methods. It leaves the reply in the
// call, for Send.
func (c *conn) answer(ctx context.Context, of *jrpc2.Request) (any, error) {
	number, err := strconv.Atoi(of.ID())
	if err != nil {
		return nil, err // we have numbered it ourselves
	}
	c.carryOut(ctx, c.numbered(number), false)
	return nil, nil
}

// carryOut leaves the reply in the call; false where that was to be done at
// once and must wait for something.
func (c *conn) carryOut(ctx context.Context, call *call, atOnce bool) bool {
	began := time.Now()
	err := c.invoke(ctx, call, atOnce)
	if atOnce && err == ErrWaits {
		return false
	}
	var refused *rpc.Error
	var cause error
	if err != nil {
		var whole bool
		if refused, whole = rpc.WireError(err); !whole {
			cause = err
		}
		call.reply.refusal(call.id, refused)
	}
	if c.server.After != nil {
		c.server.After(ctx, call.known.name, time.Since(began), refused, cause)
	}
	return true
}

// invoke calls the handler and marshals its result.
func (c *conn) invoke(ctx context.Context, call *call, atOnce bool) (err error) {
	defer recovered(&err)
	handler := call.known.handler
	if c.server.Before != nil && !call.admitted {
		if err := c.server.Before(ctx, call.known.name); err != nil {
			if c.refuse != nil || handler == nil {
				c.bad.Add(1)
			}
			return err
		}
	}
	call.admitted = true
	switch {
	case c.refuse != nil:
		return c.refuse
	case handler == nil:
		return rpc.Errorf(rpc.CodeMethodNotFound, "no method %q on this socket", shortened(call.method))
	}
	if atOnce {
		handler = call.known.atOnce
	} else {
		if err := c.caller.begin(ctx); err != nil {
			return err
		}
		defer c.caller.done()
	}
	if c.caller.full() {
		return unread()
	}
	result, err := handler(ctx, call.params)
	if err != nil {
		return err
	}
	if atOnce {
		return c.finish(call, result)
	}
	// What is being written down isn't charged yet: not all do so at once.
	c.server.writing <- struct{}{}
	defer func() { <-c.server.writing }()
	return c.finish(call, result)
}

// finish makes the reply of a result, if there is room for it.
func (c *conn) finish(call *call, result any) error {
	if err := call.reply.result(call.id, result, c.limits.Reply); err != nil {
		return err
	}
	if n := int64(call.reply.buf.Len()); n > free {
		if !c.caller.take(n) {
			if paid, ok := result.(Unsent); ok {
				paid.Unsent()
			}
			return unread()
		}
		call.charged += n
	}
	return nil
}

func unread() *rpc.Error {
	return rpc.RateLimited(time.Second, "too many long replies wait to be read: read them, then ask again")
}

// recovered turns a panic into an error.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
