package rpc

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// A Client asks a daemon. Many goroutines may use it at once: their requests go over one
// connection, and none waits for another's answer.
//
// An error of a call is an *Error if the daemon answered with it, an
// *UnreachableError if no daemon can be reached, else the context's or one of reading
// and writing. Within Dialer.Patience a call is made again if the daemon is away, or asks
// to come later (CodeRateLimited, CodeNotReady, CodeShuttingDown); ExtendMeasurement only
// if it certainly was not carried out.
type Client struct {
	connector *connector
	container string
}

// ErrUnknownOutcome means that the connection ended after a request that changes
// something and before its answer.
var ErrUnknownOutcome = errors.New("the connection ended before the answer: it is not known whether the daemon did it")

// Container returns the same client, which asks about one container. It is for the
// admin socket.
func (c *Client) Container(id string) *Client {
	return &Client{connector: c.connector, container: id}
}

// Close closes the connection. A later call opens a new one.
func (c *Client) Close() error {
	c.connector.close()
	return nil
}

// Call makes any call. params is marshalled as JSON and must be an object, or
// nil. result gets what came back: *jsontext.Value (json.RawMessage) takes its very bytes, nil
// nothing.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	body, err := c.params(params)
	if err != nil {
		return fmt.Errorf("%s: params: %w", method, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", method, context.Cause(ctx))
	}
	again := c.connector.dialer.retries()
	for {
		raw, err := c.connector.once(ctx, again, method, body, fastDecoder(result))
		if err == nil && raw == nil {
			return nil // fastDecoder has decoded it
		}
		if err == nil {
			return decodeResult(method, raw, result)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", method, context.Cause(ctx))
		}
		var e *Error
		asked := time.Duration(0)
		if errors.As(err, &e) {
			asked = e.RetryAfter()
		}
		if !repeatable(method, err) || !again.pause(ctx, asked) {
			return withMethod(method, err)
		}
	}
}

// withMethod names the method in an error, unless the error says enough.
func withMethod(method string, err error) error {
	var e *Error
	var unreachable *UnreachableError
	if errors.As(err, &e) || errors.As(err, &unreachable) {
		return err
	}
	if method == MethodExtendMeasurement && !errors.Is(err, errNotSent) {
		return fmt.Errorf("%s: %w (%w)", method, ErrUnknownOutcome, err)
	}
	return fmt.Errorf("%s: %w", method, err)
}

// repeatable reports whether the same call may be made again and could then
// succeed.
func repeatable(method string, err error) bool {
	var e *Error
	switch {
	case errors.Is(err, errNotSent):
		return true
	case errors.As(err, &e):
		// The daemon has not done it.
		return e.Code == CodeShuttingDown || e.Code == CodeRateLimited || e.Code == CodeNotReady
	case method == MethodExtendMeasurement:
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (c *Client) params(params any) (jsontext.Value, error) {
	body := jsontext.Value("{}")
	if params != nil {
		var err error
		if body, err = json.Marshal(params); err != nil {
			return nil, err
		}
	}
	if c.container == "" {
		return body, nil
	}
	if body[0] != '{' {
		return nil, errors.New("not an object")
	}
	with, err := jsontext.AppendQuote([]byte(`{"container_id":`), c.container)
	if err != nil {
		return nil, fmt.Errorf("container id: %w", err)
	}
	if string(body) != "{}" {
		with = append(with, ',')
	}
	return append(with, body[1:]...), nil
}

// fastDecoder decodes results that may be long without checking their JSON first; it
// is nil for results of other types.
func fastDecoder(result any) func([]byte) bool {
	if page, ok := result.(*CCEventLog); ok {
		return func(raw []byte) bool { return decodePlain(raw, page) }
	}
	return nil
}

func decodeResult(method string, raw jsontext.Value, result any) error {
	switch v := result.(type) {
	case nil:
		return nil
	case *jsontext.Value:
		*v = raw
		return nil
	case *CCEventLog:
		if err := v.decode(raw); err != nil {
			return fmt.Errorf("%s: result: %w", method, err)
		}
		return nil
	case *Evidence:
		e, _, err := DecodeEvidence(raw)
		if err != nil {
			return fmt.Errorf("%s: result: %w", method, err)
		}
		*v = *e
		return nil
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return fmt.Errorf("%s: result: %w", method, err)
	}
	return nil
}

// idleTime is how long a connection may be idle before another is opened: less than the
// daemon lets it be.
const idleTime = 30 * time.Second

// A connector keeps the connection of a client between calls.
type connector struct {
	dialer  Dialer
	dialing chan struct{} // a token of the call that connects

	mu   sync.Mutex
	link *link // nil: none yet
}

// once makes a call once.
func (k *connector) once(ctx context.Context, again *retries, method string, params jsontext.Value, fast func([]byte) bool) (jsontext.Value, error) {
	l, err := k.connected(ctx, again)
	if err != nil {
		return nil, err
	}
	return l.roundTrip(ctx, method, params, fast)
}

// connected returns the connection, a new one if no request can follow on the old one.
func (k *connector) connected(ctx context.Context, again *retries) (*link, error) {
	if l := k.current(); l != nil {
		return l, nil
	}
	select {
	case k.dialing <- struct{}{}:
		defer func() { <-k.dialing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l := k.current(); l != nil {
		return l, nil // another call has connected meanwhile
	}
	l, err := k.dial(ctx, again)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	old := k.link
	k.link = l
	k.mu.Unlock()
	if old != nil {
		old.retire()
	}
	return l, nil
}

func (k *connector) current() *link {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link != nil && k.link.usable() {
		return k.link
	}
	return nil
}

// close closes the connection; calls that wait on it fail.
func (k *connector) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.link; l != nil {
		k.link = nil
		l.mu.Lock()
		defer l.mu.Unlock()
		l.endAll(fmt.Errorf("the client was closed: %w", net.ErrClosed))
	}
}
