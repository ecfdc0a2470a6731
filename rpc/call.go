package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// maxBad is how many lines that are no request a connection may send before
// it is dropped.
const maxBad = 16

// PanicError is what After is told of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the value; the stack is for the journal.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// A conn answers the requests of one connection, one after the other.
type conn struct {
	framing
	server *Server
	ctx    context.Context // what Attach made; ends with the connection
	cancel func()
	refuse *Error // what Attach said: the answer to everything
	reply  *reply
	owed   int64 // charged for it

	members members // of the request, for parseRequest alone

	busy  atomic.Bool  // a request was read and its answer is not written yet
	since atomic.Int64 // when a handler began (Unix, nanoseconds); 0: none runs
}

// A method is a member of Server.Methods.
type method struct {
	name    string
	handler Handler
}

// loop answers until the connection ends.
func (c *conn) loop() {
	for bad := 0; bad < maxBad; {
		line, err := c.next()
		if err != nil {
			c.end(err)
			return
		}
		c.busy.Store(true)
		request, refused := parseRequest(line, &c.members)
		switch {
		case refused != nil:
			bad++
			c.refusal(request.id, refused)
		case c.server.draining.Load():
			c.refusal(request.id, ShuttingDown())
		default:
			c.answer(request)
		}
		err = c.write(c.reply.buf.Bytes())
		c.reply.reset()
		c.caller.take(-c.owed)
		c.owed = 0
		c.busy.Store(false)
		if err != nil {
			return
		}
	}
	c.server.callers.dropped.Add(1)
}

// end tells the caller why the connection is closed, where it broke a limit.
func (c *conn) end(err error) {
	var e *Error
	if !errors.As(err, &e) {
		return
	}
	c.refusal(nil, e)
	c.write(c.reply.buf.Bytes()) // if it can't be told, it is closed all the same
	c.server.callers.dropped.Add(1)
}

// refusal makes an error the reply to a line that is no call.
func (c *conn) refusal(id []byte, e *Error) {
	c.reply.refusal(id, e)
	if c.server.After != nil {
		c.server.After(c.ctx, "", 0, e, nil)
	}
}

// answer makes the reply to a call.
func (c *conn) answer(request call) {
	began := time.Now()
	c.since.Store(began.UnixNano())
	method := c.server.methods[string(request.method)]
	err := c.handle(method, request)
	c.since.Store(0)
	var refused *Error
	var cause error
	if err != nil {
		var whole bool
		if refused, whole = WireError(err); !whole {
			cause = err
		}
		c.reply.refusal(request.id, refused)
	}
	if c.server.After != nil {
		c.server.After(c.ctx, method.name, time.Since(began), refused, cause)
	}
}

// handle calls the handler and marshals its result.
func (c *conn) handle(method method, request call) (err error) {
	defer recovered(&err)
	if c.refuse != nil {
		return c.refuse
	}
	if method.handler == nil {
		return Errorf(CodeMethodNotFound, "no method %q on this socket", clip(request.method))
	}
	if c.server.Before != nil {
		if err := c.server.Before(c.ctx, method.name); err != nil {
			return err
		}
	}
	if err := c.caller.begin(c.ctx); err != nil {
		return err
	}
	defer c.caller.done()
	if c.caller.full() {
		return unread()
	}
	result, err := method.handler(c.ctx, request.params)
	if err != nil {
		return err
	}
	if err := c.reply.result(request.id, result, c.limits.Reply); err != nil {
		return err
	}
	if n := int64(c.reply.buf.Len()); n > free {
		if !c.caller.take(n) {
			return unread()
		}
		c.owed = n
	}
	return nil
}

func unread() *Error {
	return RateLimited(time.Second, "too many long replies wait to be read: read them, then ask again")
}

// recovered turns a panic into an error.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
