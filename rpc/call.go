package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/creachadair/jrpc2"
)

// PanicError is what After is told of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the value; the stack is for the journal.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Assign makes a conn the jrpc2.Assigner of its own server: every method is
// answered by handle, the unknown ones too.
func (c *conn) Assign(context.Context, string) jrpc2.Handler { return c.handle }

// handle answers a call. jrpc2 gets the number of the reply, which Send puts
// in its place; so a connection holds no more results than it has replies.
func (c *conn) handle(ctx context.Context, request *jrpc2.Request) (any, error) {
	var r *reply
	select {
	case r = <-c.slots:
	case <-ctx.Done():
		return nil, ctx.Err() // the connection is over: nobody reads this
	}
	began := time.Now()
	method := request.Method()
	result, err := c.call(ctx, method, request)
	if err == nil {
		err = c.fill(r, result)
	}
	var refused *Error
	var cause error
	if err != nil {
		var whole bool
		if refused, whole = WireError(err); !whole {
			cause = err
		}
		r.fillError(refused)
	}
	if c.server.After != nil {
		c.server.After(ctx, method, time.Since(began), refused, cause)
	}
	return r.number, nil
}

// fill marshals a result and charges it to the caller.
func (c *conn) fill(r *reply, result any) (err error) {
	defer recovered(&err) // a MarshalJSON of somebody's
	if err := r.fill(result, c.server.limits.Reply); err != nil {
		return err
	}
	if n := int64(r.buf.Len()); n > free {
		if !c.caller.take(n) {
			return RateLimited(time.Second, "too many long replies wait to be read: read them, then ask again")
		}
		r.charged = n
	}
	return nil
}

func (c *conn) call(ctx context.Context, method string, request *jrpc2.Request) (result any, err error) {
	defer recovered(&err)
	if c.refuse != nil {
		return nil, c.refuse
	}
	handler := c.server.Methods[method]
	if handler == nil {
		return nil, Errorf(CodeMethodNotFound, "no method %q on this socket", clip([]byte(method)))
	}
	if c.server.Before != nil {
		if err := c.server.Before(ctx, method); err != nil {
			return nil, err
		}
	}
	if err := c.caller.begin(ctx); err != nil {
		return nil, err
	}
	defer c.caller.done()
	var params json.RawMessage
	if err := request.UnmarshalParams(&params); err != nil {
		return nil, err
	}
	return handler(ctx, params)
}

// recovered turns a panic into an error.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
