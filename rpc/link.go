package rpc

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc/lines"
)

var (
	// errNotSent marks an error that came before the daemon can have read the request.
	errNotSent = errors.New("request not sent")

	// errTurnedAway marks an answer to the connection, not to the request.
	errTurnedAway = errors.New("connection turned away")
)

// A link is one connection of a client. Many calls may wait on it: each writes its
// request, and one of them reads the answers of all until it has its own; then the next
// one reads. So a call that is alone needs no other goroutine.
type link struct {
	net     net.Conn
	lines   lines.Reader  // of the call that reads
	writing chan struct{} // a token of the call that writes

	mu      sync.Mutex
	id      uint64  // of the last request
	waiting []*call // without an answer, in the order of their requests
	reading bool    // one of them reads
	over    error   // why no other request can follow; nil: it can
	used    time.Time
}

// A call is a request and its answer.
type call struct {
	id   uint64
	fast func(result []byte) bool // decodes the result, if it can; nil: there is no such decoder

	// Under link.mu.
	sent bool // all of it: the daemon may have read it
	line []byte
	err  error
	done bool          // line or err is there
	wake chan struct{} // where another call reads: gets a token when done, or when nobody reads
}

func newLink(nc net.Conn, maxReply int) *link {
	return &link{net: nc, lines: lines.Reader{In: nc, Most: maxReply, Cut: notOursOn(nc)}, writing: make(chan struct{}, 1), used: time.Now()}
}

// notOursOn returns the error of a line that is none of cimad's, or nil.
func notOursOn(nc net.Conn) func(line []byte) error {
	return func(line []byte) error { return notOurs(nc.RemoteAddr().String(), line) }
}

// usable reports whether another request can follow. An idle connection may have been
// closed by the daemon.
func (l *link) usable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over == nil && (len(l.waiting) > 0 || time.Since(l.used) < idleTime && !hungUp(l.net))
}

// roundTrip makes a call and returns its result; it is nil if fast has decoded it.
func (l *link) roundTrip(ctx context.Context, method string, params jsontext.Value, fast func([]byte) bool) (jsontext.Value, error) {
	c := &call{fast: fast}
	if err := l.send(ctx, c, method, params); err != nil {
		return nil, err
	}
	for {
		mine, done := l.turn(c)
		if done {
			return l.answer(c)
		}
		if mine {
			break
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			l.giveUp(c)
			return nil, context.Cause(ctx)
		}
	}
	l.readFor(ctx, c)
	l.mu.Lock()
	done, alone := c.done, len(l.waiting) == 0
	l.mu.Unlock()
	if !done {
		l.giveUp(c)
		l.handOver()
		return nil, context.Cause(ctx)
	}
	if !alone { // the next one reads into the same buffer
		c.line = bytes.Clone(c.line)
		l.handOver()
		return l.answer(c)
	}
	defer l.handOver()
	return l.answer(c)
}

// send writes the request of a call. If that fails, the daemon may have said why, so that
// only an error of the context is returned.
func (l *link) send(ctx context.Context, c *call, method string, params jsontext.Value) error {
	select {
	case l.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.writing }()
	l.mu.Lock()
	if l.over != nil {
		l.mu.Unlock()
		return fmt.Errorf("%w: %w", errNotSent, l.over)
	}
	l.id++
	c.id = l.id
	l.waiting = append(l.waiting, c)
	alone := len(l.waiting) == 1
	l.mu.Unlock()

	line := strconv.AppendUint([]byte(`{"jsonrpc":"2.0","id":`), c.id, 10)
	line, err := jsontext.AppendQuote(append(line, `,"method":`...), method)
	if err != nil {
		l.giveUp(c)
		return fmt.Errorf("method: %w", err)
	}
	line = append(append(append(line, `,"params":`...), params...), "}\n"...)
	finished := func() bool { return false }
	if !alone || len(line) > lines.FirstRead { // else it fits into the socket, which is empty
		finished = interruptible(ctx, l.net.SetWriteDeadline)
	}
	n, err := l.net.Write(line)
	interrupted := finished()
	l.mu.Lock()
	defer l.mu.Unlock()
	c.sent = n == len(line)
	switch {
	case c.sent:
	case interrupted: // half a line was written: none can follow
		l.endAll(fmt.Errorf("a request was given up: %w", io.ErrUnexpectedEOF))
		return context.Cause(ctx)
	default:
		l.end(fmt.Errorf("%w: %w", errNotSent, err))
	}
	return nil
}

// interruptible ends reading or writing when ctx ends, by a deadline in the past. finished
// takes the deadline off again, and reports whether ctx has ended.
func interruptible(ctx context.Context, setDeadline func(time.Time) error) (finished func() bool) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		setDeadline(time.Unix(1, 0))
		close(ended)
	})
	return func() bool {
		if stop() {
			return false
		}
		<-ended
		setDeadline(time.Time{})
		return true
	}
}

// turn makes the call the one that reads, if it has no answer and no other reads.
func (l *link) turn(c *call) (mine, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.done:
		return false, true
	case !l.reading:
		l.reading = true
		return true, false
	}
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
	}
	return false, false
}

// handOver lets another call read.
func (l *link) handOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading = false
	l.used = time.Now()
	if l.over != nil && len(l.waiting) == 0 {
		l.net.Close()
	}
	for _, c := range l.waiting {
		if c.wake != nil {
			c.awake()
			return
		}
	}
}

func (c *call) awake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// giveUp forgets a call. Where no other waits, the connection is closed: then the daemon
// gives the call up too.
func (l *link) giveUp(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forget(c); len(l.waiting) == 0 {
		l.endAll(errors.New("its last call was given up"))
	}
}

// forget takes a call off the list; an answer that comes for it is passed over.
func (l *link) forget(c *call) {
	for i := range l.waiting {
		if l.waiting[i] == c {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return
		}
	}
}

// readFor reads lines until the call has its answer or ctx ends.
func (l *link) readFor(ctx context.Context, c *call) {
	finished := interruptible(ctx, l.net.SetReadDeadline)
	defer finished()
	for {
		line, err := l.lines.Next()
		if err != nil && ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		if err == nil {
			err = l.deliver(c, line)
		}
		if err != nil {
			l.endAll(err)
		}
		done := c.done
		l.mu.Unlock()
		if done {
			return
		}
	}
}

// deliver gives a line to the call that it answers; mine is that of the one that reads.
// An error ends all calls.
func (l *link) deliver(mine *call, line []byte) error {
	id, rest, plain := idOf(line)
	if !plain {
		if err := notOurs(l.net.RemoteAddr().String(), line); err != nil {
			return err
		}
		r, err := readResponse(line)
		if err != nil {
			return err
		}
		if id, err = strconv.ParseUint(string(r.ID), 10, 64); err != nil && r.Error != nil {
			return l.aboutNoCall(r.Error)
		}
	}
	if id == 0 || id > l.id {
		return fmt.Errorf("the daemon's reply is to request %d, which was not made", id)
	}
	if bytes.HasPrefix(rest, []byte(`"error":{"code":-32007`)) {
		l.end(ShuttingDown())
	}
	for i, c := range l.waiting {
		if c.id != id {
			continue
		}
		l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
		if c.line, c.done = line, true; c != mine {
			c.line = bytes.Clone(line)
			c.awake()
		}
		return nil
	}
	return nil // the call was given up
}

// aboutNoCall ends the calls of a connection that the daemon closes with a last word. The
// word is about the first line without an answer: the daemon has answered those before it,
// and reads none behind it.
func (l *link) aboutNoCall(e *Error) error {
	if e.Code == CodeRateLimited {
		return e.Because(errTurnedAway)
	}
	if len(l.waiting) > 0 {
		first := l.waiting[0]
		l.waiting = l.waiting[1:]
		first.finish(e)
	}
	for _, c := range l.waiting {
		c.sent = false
	}
	return e
}

// retire closes the connection once no call waits on it.
func (l *link) retire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(errors.New("another connection was opened"))
	if len(l.waiting) == 0 {
		l.net.Close()
	}
}

// end lets no other request follow.
func (l *link) end(why error) {
	if l.over == nil {
		l.over = why
	}
}

// endAll ends the link and all of its calls.
func (l *link) endAll(why error) {
	l.end(why)
	l.net.Close()
	for _, c := range l.waiting {
		err := why
		if !c.sent && !errors.Is(err, errNotSent) && !errors.Is(err, errTurnedAway) {
			err = fmt.Errorf("%w: %w", errNotSent, why)
		}
		c.finish(err)
	}
	l.waiting = nil
}

func (c *call) finish(err error) {
	if c.err, c.done = err, true; c.wake != nil {
		c.awake()
	}
}

// idOf finds the id in a line that is written exactly as our daemon does.
func idOf(line []byte) (id uint64, rest []byte, plain bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"jsonrpc":"2.0","id":`))
	if !ok {
		return 0, nil, false
	}
	digits, rest, _ := bytes.Cut(rest, []byte(","))
	id, err := strconv.ParseUint(string(digits), 10, 64)
	return id, rest, err == nil
}

// answer reads the response to a call. The result belongs to the caller.
func (l *link) answer(c *call) (jsontext.Value, error) {
	if c.err != nil {
		return nil, c.err
	}
	if c.fast != nil {
		_, rest, plain := idOf(c.line)
		rest, begins := bytes.CutPrefix(rest, []byte(`"result":`))
		rest, ends := bytes.CutSuffix(rest, []byte("}"))
		if plain && begins && ends && c.fast(rest) {
			return nil, nil
		}
	}
	r, err := readResponse(c.line)
	switch {
	case err != nil:
		l.mu.Lock()
		l.end(err)
		l.mu.Unlock()
		return nil, err
	case r.Error != nil:
		return nil, r.Error
	}
	return r.Result, nil
}

// response is a response of JSON-RPC 2.0 (section 5).
type response struct {
	_      canonical.Open
	ID     jsontext.Value `json:"id"`
	Result jsontext.Value `json:"result,omitzero"`
	Error  *Error         `json:"error,omitzero"`
}

func readResponse(line []byte) (r response, err error) {
	if err := canonical.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("the daemon's reply: %w", err)
	}
	if (r.Result == nil) == (r.Error == nil) {
		return r, errors.New("the daemon's reply must have a result or an error (JSON-RPC 2.0, section 5)")
	}
	return r, nil
}
