package api

import (
	"context"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// method is one row of the method table.
type method struct {
	name   string
	access access
	inline bool                       // the answer to a caller is mostly in memory
	own    func(a *API) server.Method // about the caller
	named  func(a *API) server.Method // on the admin socket: about a container, or the caller
	gives  []any                      // results, where the function's type doesn't tell
}

// about makes a row from a function that answers about a subject.
func about[P, R any, PP interface {
	*P
	rpc.Params
}](name string, needs access, f func(*API, context.Context, *subject, P) (R, error)) method {
	answer := func(ctx context.Context, a *API, s *subject, p P) (r R, err error) {
		if err := a.allowed(ctx, s, name, needs); err != nil {
			return r, explain(err)
		}
		r, err = f(a, ctx, s, p)
		return r, explain(err)
	}
	return method{
		name: name, access: needs,
		own: func(a *API) server.Method {
			return server.Define[P, R, PP](name, func(ctx context.Context, p P) (R, error) {
				return answer(ctx, a, &callerOf(ctx).own, p)
			})
		},
		named: func(a *API) server.Method {
			return server.DefineAdmin[P, R, PP](name, func(ctx context.Context, id string, p P) (r R, err error) {
				s := &callerOf(ctx).own
				if id != "" {
					if s, err = a.named(ctx, id); err != nil {
						return r, explain(err)
					}
					defer s.done()
				}
				return answer(ctx, a, s, p)
			})
		},
	}
}

// giving names the results of a function whose type doesn't.
func (m method) giving(results ...any) method {
	m.gives = results
	return m
}

// inlined marks a row whose answer is mostly in memory: it is given in the goroutine
// that reads the connection.
func (m method) inlined() method {
	m.inline = true
	return m
}

// forCallers makes the method of the callers' socket.
func (m method) forCallers(a *API) server.Method {
	made := m.own(a)
	made.Inline = m.inline
	if m.gives != nil {
		made.Results = m.gives
	}
	return made
}

// forAdmin makes the method of the admin socket.
func (m method) forAdmin(a *API) server.Method {
	made := m.named(a)
	if m.gives != nil {
		made.Results = m.gives
	}
	return made
}
