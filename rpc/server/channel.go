package server

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"fmt"
	"io"
	"sync"

	"github.com/creachadair/jrpc2"

	"github.com/cima-project/cima/rpc"
)

// A channel is a connection as jrpc2 sees it. The lines that come out of Recv have
// passed requestReader, are for methods that there are, and come as they were
// received; jrpc2 reads them, calls the handlers and writes the answers to Send.
type channel struct {
	conn       *conn
	jrpc2      *jrpc2.Server
	lines      chan *call    // for Recv
	ended      chan struct{} // closed when no more lines come
	unanswered chan struct{} // a token for each call that jrpc2 has not answered

	// What a call takes places of: own if few are unanswered on this connection, else ahead.
	own, ahead []chan struct{}

	mu    sync.Mutex
	calls map[string]*call // by id: those that jrpc2 has not answered
}

// startChannel begins to serve a connection by jrpc2. Most connections never need it.
func startChannel(c *conn) *channel {
	ch := &channel{
		conn:  c,
		lines: make(chan *call, c.limits.InFlight),
		ended: make(chan struct{}),

		unanswered: make(chan struct{}, c.limits.InFlight),
		calls:      make(map[string]*call),
	}
	ch.own = []chan struct{}{ch.unanswered}
	ch.ahead = []chan struct{}{ch.unanswered, c.caller.unanswered, c.server.callers.unanswered}
	ch.jrpc2 = jrpc2.NewServer(ch, &jrpc2.ServerOptions{
		DisableBuiltin: true,
		Concurrency:    c.limits.InFlight, // a caller's slots bound how many run
		NewContext:     func() context.Context { return c.ctx },
	}).Start(ch)
	return ch
}

// forward gives jrpc2 a call. jrpc2 refuses an id that is in flight, so a call with
// such a one waits until the call before it is answered.
func (ch *channel) forward(call *call) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	id := string(call.id)
	if before := ch.calls[id]; before != nil {
		for before.next != nil {
			before = before.next
		}
		before.next = call
		return
	}
	ch.calls[id] = call
	ch.lines <- call // there are no more than InFlight
}

// Recv returns the next line for jrpc2.
func (ch *channel) Recv() ([]byte, error) {
	select {
	case call := <-ch.lines:
		line := call.line
		call.line = nil // jrpc2 copies what it needs
		return line, nil
	case <-ch.ended:
		return nil, io.EOF
	}
}

// Assign finds the handler of a method for jrpc2.
func (ch *channel) Assign(_ context.Context, name string) jrpc2.Handler {
	method := ch.conn.server.methods[name]
	if method == nil {
		return nil
	}
	return func(ctx context.Context, r *jrpc2.Request) (any, error) { return ch.handle(ctx, method, r) }
}

// handle answers a call for jrpc2. A reply that jrpc2 would copy too often or spell
// in another way is left in the call, for Send.
func (ch *channel) handle(ctx context.Context, method *Method, r *jrpc2.Request) (any, error) {
	var params jsontext.Value
	if err := r.UnmarshalParams(&params); err != nil {
		return nil, err
	}
	call := ch.call(r.ID())
	call.handled = true
	if refused := ch.conn.carryOut(ctx, call, method, params); refused != nil {
		call.reply.reset()
		return nil, wireError(refused)
	}
	result := call.reply.result()
	if len(result) > uncharged || bytes.ContainsAny(result, "<>&\u2028\u2029") {
		return nil, nil
	}
	result = bytes.Clone(result)
	call.reply.reset()
	return jsontext.Value(result), nil
}

// wireError is an error as jrpc2 writes it.
func wireError(e *rpc.Error) *jrpc2.Error {
	wire := &jrpc2.Error{Code: jrpc2.Code(e.Code), Message: e.Message}
	if e.Data != nil {
		return wire.WithData(e.Data)
	}
	return wire
}

// Send writes jrpc2's answer to a call.
func (ch *channel) Send(message []byte) error {
	call := ch.call(idOf(message))
	if call == nil {
		ch.Close()
		return fmt.Errorf("jrpc2 answers no call: %.64q", message)
	}
	line := append(message, '\n')
	switch {
	case !call.handled: // jrpc2's own error: the connection is over
		call.reply.refusal(call.id, rpc.ShuttingDown())
		fallthrough
	case call.reply.buf.Len() > 0:
		line = call.reply.buf.Bytes()
	}
	// Before the answer can be read: a caller that has it may ask again at once.
	ch.answered(call)
	leave(call.places)
	err := ch.conn.write(line)
	ch.conn.caller.refund(call.charged)
	ch.conn.open.Add(-1)
	if err != nil {
		ch.Close()
	}
	return err
}

// enter waits until one more call may be unanswered, and returns of what it takes places.
// It returns false if the peer is gone before.
func (ch *channel) enter() (taken []chan struct{}, ok bool) {
	taken = ch.own
	if len(ch.unanswered) >= sentAhead {
		taken = ch.ahead
	}
	for i, places := range taken {
		if !ch.conn.enter(places) {
			leave(taken[:i])
			return nil, false
		}
	}
	return taken, true
}

func leave(taken []chan struct{}) {
	for _, places := range taken {
		<-places
	}
}

// answered takes a call off the list, and gives jrpc2 the one that waits for its id.
func (ch *channel) answered(call *call) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if call.next == nil {
		delete(ch.calls, string(call.id))
		return
	}
	ch.calls[string(call.id)] = call.next
	ch.lines <- call.next
}

func (ch *channel) call(id string) *call {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.calls[id]
}

// idOf finds the id in an answer of jrpc2's, as it is written there.
func idOf(message []byte) string {
	rest, _ := bytes.CutPrefix(message, []byte(`{"jsonrpc":"2.0","id":`))
	if len(rest) == 0 || rest[0] != '"' {
		id, _, _ := bytes.Cut(rest, []byte(","))
		return string(id)
	}
	for end := 1; end < len(rest); end++ {
		switch rest[end] {
		case '\\':
			end++
		case '"':
			return string(rest[:end+1])
		}
	}
	return ""
}

// Close ends the connection, and whatever waits for its peer.
func (ch *channel) Close() error { return ch.conn.Close() }

// end waits until jrpc2 has ended, and returns what calls still hold that it never
// answered.
func (ch *channel) end() (charged int64) {
	close(ch.ended)
	ch.jrpc2.Wait()
	for _, call := range ch.calls {
		for ; call != nil; call = call.next {
			charged += call.charged
			leave(call.places)
		}
	}
	return charged
}
