package server

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// A call is a request from the line that it was read from to the line that
// answers it.
type call struct {
	id       []byte
	admitted bool  // by Server.Before
	charged  int64 // for the line and for the reply
	reply    reply

	// For jrpc2.
	line    []byte          // as it was received
	places  []chan struct{} // see channel.enter
	next    *call           // the call that has the same id and waits for this one
	handled bool            // the handler was called
}

// newCall makes a call of a line for jrpc2, nil if the caller may hold no more.
func (c *conn) newCall(line []byte, id []byte) *call {
	charge := int64(0)
	if len(line) > uncharged {
		charge = int64(len(line))
	}
	if !c.caller.charge(charge) {
		return nil
	}
	return &call{id: bytes.Clone(id), line: bytes.Clone(line), charged: charge}
}

// carryOut calls a handler that may wait. It leaves the result in the call's reply,
// or returns the error that the caller gets instead.
func (c *conn) carryOut(ctx context.Context, call *call, method *Method, params jsontext.Value) *rpc.Error {
	began := time.Now()
	err := c.invoke(ctx, call, method, params)
	return c.finished(ctx, method, began, err)
}

// carryOutInline calls a handler that must not wait, and leaves the whole answer in
// the call's reply. It returns false if the handler has to wait. method is nil if
// there is no such method.
func (c *conn) carryOutInline(call *call, method *Method, r request) bool {
	began := time.Now()
	err := c.invokeInline(call, method, r)
	if err == errMustWait {
		return false
	}
	if refused := c.finished(c.ctx, method, began, err); refused != nil {
		call.reply.refusal(call.id, refused)
	}
	return true
}

// finished reports an answer to After, and returns what the caller gets of err.
func (c *conn) finished(ctx context.Context, method *Method, began time.Time, err error) (refused *rpc.Error) {
	var cause error
	if err != nil {
		var whole bool
		if refused, whole = rpc.WireError(err); !whole {
			cause = err
		}
	}
	if c.server.After != nil {
		name := ""
		if method != nil {
			name = method.Name
		}
		c.server.After(ctx, name, time.Since(began), refused, cause)
	}
	return refused
}

func (c *conn) invoke(ctx context.Context, call *call, method *Method, params jsontext.Value) (err error) {
	defer recovered(&err)
	if err := c.admit(ctx, call, method); err != nil {
		return err
	}
	s := &slot{of: c.caller.caller}
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.leave()
	if !c.caller.awaitReading(ctx) {
		return tooMuchUnread()
	}
	result, err := method.Handler(context.WithValue(ctx, slotKey{}, s), params)
	if err != nil {
		return err
	}
	return c.finish(ctx, call, result)
}

func (c *conn) invokeInline(call *call, method *Method, r request) (err error) {
	defer recovered(&err)
	if err := c.admit(c.ctx, call, method); err != nil {
		if c.refuse != nil || method == nil {
			c.bad++
		}
		return err
	}
	switch {
	case c.refuse != nil:
		return c.refuse
	case method == nil:
		return rpc.Errorf(rpc.CodeMethodNotFound, "no method %q on this socket%s", canonical.Clip(string(r.method), 64), c.server.meant(r.method))
	case c.caller.holdsMuch():
		return errMustWait
	}
	result, err := method.Handler(&c.inline, r.params)
	if err != nil {
		return err
	}
	return c.finishInline(call, result)
}

// admit asks Before, once for each call.
func (c *conn) admit(ctx context.Context, call *call, method *Method) error {
	if c.server.Before != nil && !call.admitted {
		name := ""
		if method != nil {
			name = method.Name
		}
		if err := c.server.Before(ctx, name); err != nil {
			return err
		}
	}
	call.admitted = true
	return nil
}

// finish marshals a result into the call's reply. It waits until the caller may hold
// one of full length, so that a caller that reads is slowed, and not refused.
func (c *conn) finish(ctx context.Context, call *call, result any) error {
	held := int64(c.limits.Reply) + uncharged
	if !c.caller.await(ctx, held) {
		if paid, ok := result.(Unsent); ok {
			paid.Unsent()
		}
		return tooMuchUnread()
	}
	err := call.reply.encode(call.id, result, c.limits.Reply)
	keep := int64(0)
	if n := int64(call.reply.buf.Len()); err == nil && n > uncharged {
		keep = n
	}
	c.caller.charge(keep - held)
	call.charged += keep
	return err
}

// finishInline is finish where nothing may wait: a reply that must wait is made again.
func (c *conn) finishInline(call *call, result any) error {
	if err := call.reply.encode(call.id, result, c.limits.Reply); err != nil {
		return err
	}
	if n := int64(call.reply.buf.Len()); n > uncharged {
		if !c.caller.charge(n) {
			call.reply.reset()
			return errMustWait
		}
		call.charged += n
	}
	return nil
}

func tooMuchUnread() *rpc.Error {
	return rpc.RateLimited(time.Second, "long replies wait to be read, and none was read for a while: read them, then ask again")
}

// recovered turns a panic into an error, which only the journal gets.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("handler panicked: %v\n%s", v, debug.Stack())
	}
}
