package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// PanicError is what After gets of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the value; the stack is for the journal.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// A call is a request from the line that it was read from to the line that
// answers it.
type call struct {
	id       []byte
	admitted bool  // by Server.Before
	charged  int64 // for the line and for the reply
	reply    reply

	// For jrpc2.
	line    []byte // as it was received
	next    *call  // that has the same id, and waits
	handled bool   // the handler has run
}

// begin makes a call of a line for jrpc2, nil where the caller may hold no more.
func (c *conn) begin(line []byte, id []byte) *call {
	charge := int64(0)
	if len(line) > free {
		charge = int64(len(line))
	}
	if !c.caller.take(charge) {
		return nil
	}
	return &call{id: bytes.Clone(id), line: bytes.Clone(line), charged: charge}
}

// carryOut answers a call by a handler that may wait. It leaves the result in the
// call's reply, or returns what the caller is told instead.
func (c *conn) carryOut(ctx context.Context, call *call, method *Method, params json.RawMessage) *rpc.Error {
	began := time.Now()
	err := c.invoke(ctx, call, method, params)
	return c.finished(ctx, method, began, err)
}

// carryOutInline leaves the whole answer in the call's reply; false where the
// handler must wait. A nil method is one that there is not.
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

// finished tells After of an answer, and returns what the caller is told of err.
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

func (c *conn) invoke(ctx context.Context, call *call, method *Method, params json.RawMessage) (err error) {
	defer recovered(&err)
	if err := c.admit(ctx, call, method); err != nil {
		return err
	}
	if err := c.caller.begin(ctx); err != nil {
		return err
	}
	defer c.caller.done()
	if c.caller.full() {
		return unread()
	}
	result, err := method.Handler(ctx, params)
	if err != nil {
		return err
	}
	// A reply that is being written is not charged yet, so few are at once.
	c.server.writing <- struct{}{}
	defer func() { <-c.server.writing }()
	return c.finish(call, result)
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
		return rpc.Errorf(rpc.CodeMethodNotFound, "no method %q on this socket", canonical.Clip(string(r.method), 64))
	case c.caller.full():
		return unread()
	}
	result, err := method.Handler(&c.inline, r.params)
	if err != nil {
		return err
	}
	return c.finish(call, result)
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

// finish makes the reply of a result, if the caller may hold it.
func (c *conn) finish(call *call, result any) error {
	if err := call.reply.encode(call.id, result, c.limits.Reply); err != nil {
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
