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

	"github.com/cima-project/cima/rpc/unreached"
)

// usualPatience is Dialer.Patience where it is 0.
const usualPatience = 2 * time.Second

// Dialer holds options for reaching the daemon. Its zero value is ready to use.
type Dialer struct {
	// Path is that of the socket. "" means $CIMA_SOCKET, else DefaultSocket.
	Path string

	// Patience is how long Dial and each call try again: while the socket isn't there
	// yet or nobody listens, after a lost connection, and where the daemon says when to
	// come again (Error.RetryAfter) and that is within it. 0 means 2 s; below 0 nothing
	// is tried again.
	Patience time.Duration

	// Wait is patience without end: Dial and calls wait as long as their contexts allow.
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

// Error says what happened, and what may help.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no daemon at %s: %v; hint: %s", e.Path, e.Err, e.Hint)
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
	k := &connector{dialer: d, dialing: make(chan struct{}, 1)}
	if _, err := k.connected(ctx, d.retries()); err != nil {
		return nil, err
	}
	return &Client{connector: k}, nil
}

func (d Dialer) retries() *retries {
	if d.Patience == 0 {
		d.Patience = usualPatience
	}
	return &retries{end: time.Now().Add(d.Patience), wait: d.Wait}
}

// dial connects, and tries again if that may help.
func (k *connector) dial(ctx context.Context, again *retries) (*link, error) {
	for {
		var dialer net.Dialer
		nc, err := dialer.DialContext(ctx, "unix", k.dialer.Path)
		if err == nil {
			return newLink(nc, k.dialer.MaxReply), nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to %s: %w", k.dialer.Path, context.Cause(ctx))
		}
		if !k.mayPass(err) || !again.pause(ctx, 0) {
			return nil, &UnreachableError{Path: k.dialer.Path, Hint: unreached.Hint(k.dialer.Path, DefaultSocket, err), Err: withoutPath(err)}
		}
	}
}

// mayPass reports whether connecting may succeed soon: the queue was full (EAGAIN), the
// socket isn't there yet (ENOENT), or nobody listens while the daemon restarts.
// Where a mistake can be seen, it may not.
func (k *connector) mayPass(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ECONNRESET) ||
		(errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)) && unreached.Misplaced(k.dialer.Path, DefaultSocket) == ""
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
	end  time.Time
	wait bool
	n    int
}

// pause waits at least as long as the daemon asked for, and longer each time. It returns
// false if nothing may be tried again by then.
func (r *retries) pause(ctx context.Context, asked time.Duration) bool {
	wait := min(10*time.Millisecond<<min(r.n, 10), time.Second)
	r.n++
	wait = max(asked, wait/2+rand.N(wait/2)) // so that not all clients come back at once
	if !r.wait && time.Now().Add(wait).After(r.end) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}
