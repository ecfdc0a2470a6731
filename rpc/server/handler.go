package server

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/cima-project/cima/rpc"
)

// Handler answers one method. params is the member of that name as received,
// nil where it is absent; its names are unambiguous, and it is valid until the
// handler returns. The result is marshalled as JSON; json.RawMessage must be
// compact. The context ends soon after the caller has hung up.
type Handler func(ctx context.Context, params json.RawMessage) (any, error)

// A Method is one row of a Server's method table.
type Method struct {
	Name    string
	Handler Handler

	// Inline marks a method whose answer is mostly in memory. Its handler runs
	// in the goroutine that reads the connection where nothing else of that
	// connection is under way, and must not wait there: not for a lock that
	// somebody holds over I/O, not for hardware, not for another caller. Before
	// it waits it asks MayWait.
	Inline bool

	// For Describe: the type that reads the parameters, whether a container may
	// be named next to them, and what the method returns, one of Results.
	Params  rpc.Params
	Admin   bool
	Results []any
}

// errMustWait is the answer of MayWait to an inline handler.
var errMustWait = errors.New("an inline handler must not wait")

// MayWait returns an error where ctx is that of an inline handler. The handler
// returns that error as it is and at once, with nothing done: the request goes to
// jrpc2, which calls the handler again, in a goroutine that may wait.
func MayWait(ctx context.Context) error {
	if ctx.Value(inlineKey{}) != nil {
		return errMustWait
	}
	return nil
}

// An inlineContext marks the context of inline handlers. It is a part of the
// connection: a context.WithValue for each would cost memory.
type inlineContext struct{ context.Context }

type inlineKey struct{}

// Value answers MayWait, and asks the context that Attach made for the rest.
func (c *inlineContext) Value(key any) any {
	if key == (inlineKey{}) {
		return true
	}
	return c.Context.Value(key)
}

// Unsent is a result that cost something: Unsent is called where the result was
// made and then not sent, because the caller held too much already.
type Unsent interface {
	Unsent()
}

// Define makes a method of a function with typed parameters.
func Define[P, R any, PP interface {
	*P
	rpc.Params
}](name string, f func(ctx context.Context, params P) (R, error)) Method {
	m := describe[P, R, PP](name)
	m.Handler = func(ctx context.Context, raw json.RawMessage) (any, error) {
		var p P
		if err := rpc.DecodeParams(raw, PP(&p)); err != nil {
			return nil, err
		}
		return f(ctx, p)
	}
	return m
}

// DefineAdmin makes a method of the admin socket, where a request may name a
// container: container is "" where it names none.
func DefineAdmin[P, R any, PP interface {
	*P
	rpc.Params
}](name string, f func(ctx context.Context, container string, params P) (R, error)) Method {
	m := describe[P, R, PP](name)
	m.Admin = true
	m.Handler = func(ctx context.Context, raw json.RawMessage) (any, error) {
		var p P
		container, err := rpc.DecodeAdminParams(raw, PP(&p))
		if err != nil {
			return nil, err
		}
		return f(ctx, container, p)
	}
	return m
}

// describe takes what Discover reports from a function's types.
func describe[P, R any, PP interface {
	*P
	rpc.Params
}](name string) Method {
	var result R
	return Method{Name: name, Params: PP(new(P)), Results: []any{result}}
}
