package rpc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/cima-project/cima/logs/canonical"
)

var (
	// errNotSent marks an error that came before the daemon can have read the request.
	errNotSent = errors.New("request not sent")

	// errTurnedAway marks an answer to the connection, not to the request.
	errTurnedAway = errors.New("connection turned away")
)

// A link is one connection of a client. It sends a request, then reads its answer.
type link struct {
	net      net.Conn
	maxReply int
	id       uint64
	used     time.Time
	over     bool // the answer was to no request: the daemon closes the connection

	buf  []byte // kept: a page of a log is as long as the one before
	past int    // where the line that was returned last ends in buf
	have int    // how many bytes of buf were read

	// fast decodes the result of the next answer before anything has checked it;
	// it returns false if it can't. nil: there is no such decoder.
	fast func(result []byte) bool
}

func newLink(nc net.Conn, maxReply int) *link {
	return &link{net: nc, maxReply: maxReply}
}

func (l *link) next() uint64 {
	l.id++
	return l.id
}

// usable reports whether another request can follow one that ended with err.
func (l *link) usable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code != CodeShuttingDown && !l.over
}

// roundTrip sends a line and returns the result in the line that comes back. The
// result belongs to the caller; it is nil if fast has decoded it.
func (l *link) roundTrip(ctx context.Context, request []byte) (jsontext.Value, error) {
	// The end of the context ends the waiting for the daemon.
	stop := context.AfterFunc(ctx, func() { l.net.SetDeadline(time.Unix(1, 0)) })
	line, err := l.exchange(request)
	if !stop() {
		l.net.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	if l.fast != nil && l.decodedFast(line) {
		return nil, nil
	}
	return l.answer(line)
}

// decodedFast tries fast on an answer that is written exactly as our daemon does.
func (l *link) decodedFast(line []byte) bool {
	begin := strconv.AppendUint([]byte(`{"jsonrpc":"2.0","id":`), l.id, 10)
	rest, ok := bytes.CutPrefix(line, append(begin, `,"result":`...))
	if !ok {
		return false
	}
	rest, ok = bytes.CutSuffix(rest, []byte("}"))
	return ok && l.fast(rest)
}

func (l *link) exchange(request []byte) ([]byte, error) {
	n, writeErr := l.net.Write(request)
	if writeErr != nil && n == 0 {
		writeErr = fmt.Errorf("%w: %w", errNotSent, writeErr)
	}
	// The daemon may have written why it closed the connection.
	line, err := l.line()
	if writeErr != nil && err != nil {
		return nil, writeErr
	}
	return line, err
}

// firstRead is the first size of the buffer for a line, and keptLine the largest size
// that is kept for the next line: a page of a log.
const (
	firstRead = 16 << 10
	keptLine  = 2 << 20
)

// line reads a line of at most maxReply bytes, valid until the next one.
func (l *link) line() ([]byte, error) {
	if len(l.buf) > keptLine {
		l.shrink()
	}
	l.have, l.past = copy(l.buf, l.buf[l.past:l.have]), 0
	looked := 0
	for {
		if i := bytes.IndexByte(l.buf[looked:l.have], '\n'); i >= 0 && looked+i < l.maxReply {
			l.past = looked + i + 1
			return l.buf[:l.past-1], nil
		}
		if l.have > l.maxReply {
			return nil, fmt.Errorf("the reply must have at most %d bytes", l.maxReply)
		}
		if l.have == len(l.buf) {
			l.grow(min(max(firstRead, 4*l.have), l.maxReply+1))
		}
		n, err := l.net.Read(l.buf[l.have:])
		looked = l.have
		l.have += n
		switch {
		case n > 0 || err == nil:
		case errors.Is(err, io.EOF) && l.have > 0:
			return nil, cmp.Or(l.notOurs(l.buf[:l.have]), io.ErrUnexpectedEOF)
		default:
			return nil, err
		}
	}
}

// grow replaces the buffer by one of that size.
func (l *link) grow(size int) {
	buf := make([]byte, size)
	copy(buf, l.buf[:l.have])
	l.buf = buf
}

// shrink gives up a long buffer.
func (l *link) shrink() {
	rest := l.buf[l.past:l.have]
	l.buf, l.past, l.have = bytes.Clone(rest), 0, len(rest)
}

// response is a response of JSON-RPC 2.0 (section 5).
type response struct {
	_      canonical.Open
	ID     jsontext.Value `json:"id"`
	Result jsontext.Value `json:"result,omitzero"`
	Error  *Error         `json:"error,omitzero"`
}

func (l *link) notOurs(reply []byte) error { return notOurs(l.net.RemoteAddr().String(), reply) }

// answer reads a response to this link's request.
func (l *link) answer(line []byte) (jsontext.Value, error) {
	var r response
	if err := l.notOurs(line); err != nil {
		return nil, err
	}
	if err := canonical.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("the daemon's reply: %w", err)
	}
	if (r.Result == nil) == (r.Error == nil) {
		return nil, errors.New("the daemon's reply must have a result or an error (JSON-RPC 2.0, section 5)")
	}
	ours := string(r.ID) == strconv.FormatUint(l.id, 10)
	if r.Error == nil {
		if !ours {
			return nil, fmt.Errorf("the daemon's reply is to request %s, not to %d", canonical.Clip(string(r.ID), 64), l.id)
		}
		return r.Result, nil
	}
	l.over = !ours
	if l.over && r.Error.Code == CodeRateLimited {
		r.Error = r.Error.Because(errTurnedAway)
	}
	return nil, r.Error
}
