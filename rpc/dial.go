package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"
)

// retryFor is how long a client without Dialer.Wait tries again while the daemon
// restarts or is busy.
const retryFor = 2 * time.Second

// Dialer holds options for reaching the daemon. Its zero value is ready to use.
type Dialer struct {
	// Path is that of the socket. "" means $CIMA_SOCKET, else DefaultSocket.
	Path string

	// Wait makes Dial and calls wait, as long as their contexts allow, for a
	// daemon that is not there yet, and while it answers CodeNotReady.
	Wait bool

	// MaxReply bounds the bytes of a reply. 0 means MaxEvidence and 4 KiB for
	// the envelope.
	MaxReply int
}

// UnreachableError is the error if no daemon can be reached. Hint says what may be
// the cause.
type UnreachableError struct {
	Path string
	Hint string
	Err  error
}

// Error says what happened. A program that shows it to a person adds the hint.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no daemon at %s: %v", e.Path, e.Err)
}

// Unwrap returns the error of the system.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Dial connects to the daemon at path; "" is as in Dialer.Path.
func Dial(ctx context.Context, path string) (*Client, error) {
	return Dialer{Path: path}.Dial(ctx)
}

// Dial connects to the daemon, so that a wrong path shows at once. An error is an
// *UnreachableError, or the context's.
func (d Dialer) Dial(ctx context.Context) (*Client, error) {
	if d.Path == "" {
		d.Path = os.Getenv(SocketEnv)
	}
	if d.Path == "" {
		d.Path = DefaultSocket
	}
	if d.MaxReply == 0 {
		d.MaxReply = MaxEvidence + 4096
	}
	pool := &pool{dialer: d}
	l, err := pool.dial(ctx, d.retries())
	if err != nil {
		return nil, err
	}
	pool.put(l)
	return &Client{pool: pool}, nil
}

func (d Dialer) retries() *retries {
	return &retries{began: time.Now(), wait: d.Wait}
}

// dial connects, and tries again if that may help.
func (p *pool) dial(ctx context.Context, again *retries) (*link, error) {
	for {
		var dialer net.Dialer
		nc, err := dialer.DialContext(ctx, "unix", p.dialer.Path)
		if err == nil {
			return newLink(nc, p.dialer.MaxReply), nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to %s: %w", p.dialer.Path, context.Cause(ctx))
		}
		if !again.may(mayPass(err, p.dialer.Wait)) || again.pause(ctx, 0) != nil {
			return nil, &UnreachableError{Path: p.dialer.Path, Hint: hint(p.dialer.Path, err), Err: withoutPath(err)}
		}
	}
}

// mayPass reports whether connecting may succeed soon: the queue was full (EAGAIN), or
// nobody listens yet, or nobody listens while the daemon restarts.
func mayPass(err error, wait bool) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		wait && errors.Is(err, syscall.ENOENT)
}

// withoutPath takes the path off an error of package net, because UnreachableError
// names it already.
func withoutPath(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

// retries decides how often and how long a client tries again.
type retries struct {
	began time.Time
	wait  bool
	n     int
}

// may reports whether to try again.
func (r *retries) may(passing bool) bool {
	return passing && (r.wait || time.Since(r.began) < retryFor)
}

// pause waits at least as long as the daemon asked for, and longer each time.
func (r *retries) pause(ctx context.Context, asked time.Duration) error {
	wait := min(10*time.Millisecond<<min(r.n, 10), time.Second)
	r.n++
	wait = max(asked, wait/2+rand.N(wait/2)) // so that not all clients come back at once
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}
