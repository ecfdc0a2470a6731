package rpc

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// A Client asks a daemon. Many goroutines may use it at once: each call has a
// connection of its own, and a few connections are kept.
//
// An error of a call is an *Error if the daemon answered with it, an
// *UnreachableError if no daemon can be reached, else the context's or one of reading
// and writing. If the daemon restarts, calls that change nothing are made again;
// ExtendMeasurement only if it certainly was not carried out.
type Client struct {
	pool      *pool
	container string
}

// ErrUnknownOutcome means that the connection ended after a request that changes
// something and before its answer.
var ErrUnknownOutcome = errors.New("the connection ended before the answer: it is not known whether the daemon did it")

// Container returns the same client, which asks about one container. It is for the
// admin socket.
func (c *Client) Container(id string) *Client {
	return &Client{pool: c.pool, container: id}
}

// Close closes the connections that are kept.
func (c *Client) Close() error {
	c.pool.close()
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
	again := c.pool.dialer.retries()
	for {
		raw, err := c.pool.once(ctx, again, method, body, fastDecoder(result))
		if err == nil && raw == nil {
			return nil // fastDecoder has decoded it
		}
		if err == nil {
			return decodeResult(method, raw, result)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", method, context.Cause(ctx))
		}
		if !again.may(c.pool.repeatable(method, err)) {
			return withMethod(method, err)
		}
		var e *Error
		asked := time.Duration(0)
		if errors.As(err, &e) {
			asked = e.RetryAfter()
		}
		if again.pause(ctx, asked) != nil {
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
func (p *pool) repeatable(method string, err error) bool {
	var e *Error
	switch {
	case errors.As(err, &e):
		// The daemon has not done it.
		return e.Code == CodeShuttingDown || errors.Is(err, errTurnedAway) ||
			e.Code == CodeNotReady && p.dialer.Wait
	case errors.Is(err, errNotSent):
		return true
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

// idleLinks is how many connections are kept, and idleTime how long: less than the
// daemon lets a connection be idle.
const (
	idleLinks = 4
	idleTime  = 30 * time.Second
)

// A pool keeps the connections of a client between calls.
type pool struct {
	dialer Dialer

	mu     sync.Mutex
	idle   []*link // the one used last is at the end
	closed bool
}

// request is a request of JSON-RPC 2.0 (section 4).
type request struct {
	JSONRPC string         `json:"jsonrpc"`
	ID      uint64         `json:"id"`
	Method  string         `json:"method"`
	Params  jsontext.Value `json:"params"`
}

// once makes a call once.
func (p *pool) once(ctx context.Context, again *retries, method string, params jsontext.Value, plain func([]byte) bool) (jsontext.Value, error) {
	l := p.get()
	if l == nil {
		var err error
		if l, err = p.dial(ctx, again); err != nil {
			return nil, err
		}
	}
	l.fast = plain
	line, err := json.Marshal(request{"2.0", l.next(), method, params})
	if err != nil {
		p.put(l)
		return nil, err
	}
	raw, err := l.roundTrip(ctx, append(line, '\n'))
	if err != nil && !l.usable(err) {
		l.net.Close()
		return nil, err
	}
	p.put(l)
	return raw, err
}

// get returns a connection that is kept, nil if there is none.
func (p *pool) get() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		l := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(l.used) < idleTime && !hungUp(l.net) {
			return l
		}
		l.net.Close()
	}
	return nil
}

func (p *pool) put(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= idleLinks {
		l.net.Close()
		return
	}
	l.used = time.Now()
	p.idle = append(p.idle, l)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.idle {
		l.net.Close()
	}
	p.idle = nil
}
