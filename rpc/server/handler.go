package server

import (
	"context"
	"encoding/json/jsontext"
	"errors"

	"github.com/cima-project/cima/rpc"
)

// Handler answers one method. params is the member of that name as received, nil if
// it is absent. Its names are unambiguous, and it is valid until the handler returns.
// The result is marshalled as JSON; a jsontext.Value must be compact. The context
// ends soon after the caller has hung up.
type Handler func(ctx context.Context, params jsontext.Value) (any, error)

// A Method is one row of a Server's method table.
type Method struct {
	Name    string
	Handler Handler

	// Inline marks a method whose answer is mostly in memory. If no other call
	// of a connection is under way, its handler runs in the goroutine that reads
	// the connection. There it must not wait: not for a lock that is held during
	// I/O, not for hardware, not for another caller. Before it waits it asks
	// MayWait.
	Inline bool

	// Results are values of the types that the method returns, one of them at a
	// time. Define takes the type from the function.
	Results []any

	params rpc.Params // the type that the parameters are read into
	admin  bool       // container_id may stand next to them
}

// errMustWait is the answer of MayWait to an inline handler.
var errMustWait = errors.New("an inline handler must not wait")

// MayWait returns an error if ctx is that of an inline handler, else nil. The handler
// must return that error at once and as it is, and must have changed nothing: the
// request goes to jrpc2, which calls the handler again, where it may wait.
func MayWait(ctx context.Context) error {
	if ctx.Value(inlineKey{}) != nil {
		return errMustWait
	}
	return nil
}

// An inlineContext marks the context of inline handlers. It is a field of the
// connection, because a context.WithValue for each connection would cost memory.
type inlineContext struct{ context.Context }

type inlineKey struct{}

// Value answers MayWait, and asks the context that Attach made for the rest.
func (c *inlineContext) Value(key any) any {
	if key == (inlineKey{}) {
		return true
	}
	return c.Context.Value(key)
}

// Unsent is a result that cost something. Unsent is called if the result was made and
// is not sent, because the caller holds too much already.
type Unsent interface {
	Unsent()
}

// Define makes a method of a function with typed parameters.
func Define[P, R any, PP interface {
	*P
	rpc.Params
}](name string, f func(ctx context.Context, params P) (R, error)) Method {
	m := describe[P, R, PP](name)
	m.Handler = func(ctx context.Context, raw jsontext.Value) (any, error) {
		var p P
		if err := rpc.DecodeParams(raw, PP(&p)); err != nil {
			return nil, err
		}
		return f(ctx, p)
	}
	return m
}

// DefineAdmin makes a method of the admin socket, where a request may name a
// container; container is "" if it names none.
func DefineAdmin[P, R any, PP interface {
	*P
	rpc.Params
}](name string, f func(ctx context.Context, container string, params P) (R, error)) Method {
	m := describe[P, R, PP](name)
	m.admin = true
	m.Handler = func(ctx context.Context, raw jsontext.Value) (any, error) {
		var p P
		container, err := rpc.DecodeAdminParams(raw, PP(&p))
		if err != nil {
			return nil, err
		}
		return f(ctx, container, p)
	}
	return m
}

// describe takes from a function's types what discovery reports.
func describe[P, R any, PP interface {
	*P
	rpc.Params
}](name string) Method {
	var result R
	return Method{Name: name, params: PP(new(P)), Results: []any{result}}
}
