package rpc

import (
	"context"
	"net"
	"time"
)

// Server answers connections. Its exported members are set before Serve and
// not changed afterwards.
type Server struct {
	// Methods is every method there is on this socket.
	Methods map[string]Handler

	// Limits bound what callers can do.
	Limits Limits

	// Attach is called once for each connection, before anything is read:
	// it says who is calling. Its context is what handlers get; release,
	// where it is not nil, is called when the connection is over and no
	// handler runs any more. An error is the answer to every request of
	// that connection. ctx has a deadline of 5 s.
	Attach func(ctx context.Context, conn *net.UnixConn) (attached context.Context, release func(), err error)

	// Key names the caller that a connection is charged to, from the
	// context that Attach made. "" is charged to nobody.
	Key func(ctx context.Context) string

	// Before is called before each request's handler; its error is the
	// answer. A rate limit and a check that the caller still lives belong
	// here.
	Before func(ctx context.Context, method string) error

	// After is called when a request has its answer: refused is what the
	// caller is told, nil where it gets a result; cause is what the journal
	// should hold beyond that, nil where nothing is left out: the error of
	// a handler that is no *Error, or a *PanicError.
	After func(ctx context.Context, method string, took time.Duration, refused *Error, cause error)
}
