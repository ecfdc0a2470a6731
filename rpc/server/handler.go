package server

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/cima-project/cima/rpc"
)

// ErrWaits is what a handler of Server.AtOnce returns, as it is, where the
// answer has to be waited for.
var ErrWaits = errors.New("the answer has to be waited for")

// Handler answers one method. params is the member of that name as received,
// nil where it is absent; it has passed Strict and is valid until the handler
// returns. The result is marshalled as JSON (json.RawMessage goes out as it
// is). The context ends soon after the caller has hung up.
type Handler func(ctx context.Context, params json.RawMessage) (any, error)

// Unsent is a result that cost something: it is told where it was made and then
// not sent, for there was no room for it.
type Unsent interface {
	Unsent()
}

// Bind makes a handler of a function with typed parameters.
func Bind[P, R any, PP interface {
	*P
	rpc.Params
}](f func(ctx context.Context, params P) (R, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var p P
		if err := rpc.DecodeParams(raw, PP(&p)); err != nil {
			return nil, err
		}
		return f(ctx, p)
	}
}

// BindAdmin makes a handler for the admin socket, where a request may name a
// container: container is "" where it names none.
func BindAdmin[P, R any, PP interface {
	*P
	rpc.Params
}](f func(ctx context.Context, container string, params P) (R, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var p P
		container, err := rpc.DecodeAdminParams(raw, PP(&p))
		if err != nil {
			return nil, err
		}
		return f(ctx, container, p)
	}
}
