package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

var (
	// errNotSent marks an error before the daemon can have read the request.
	errNotSent = errors.New("request not sent")

	// errTurnedAway marks an answer to the connection, not to the request.
	errTurnedAway = errors.New("connection turned away")
)

// A link is one connection of a client: a request, then its answer.
type link struct {
	net      net.Conn
	in       *bufio.Reader
	maxReply int
	id       uint64
	used     time.Time
	over     bool   // what came answered no request: the daemon closes it
	buf      []byte // of the line read last: a page of a log is as long as the one before

	// plain takes the result of the next answer as it is, before it is looked
	// at; false where it doesn't know it. Nil: there is none.
	plain func(result []byte) bool
}

func newLink(nc net.Conn, maxReply int) *link {
	return &link{net: nc, in: bufio.NewReaderSize(nc, 16<<10), maxReply: maxReply}
}

func (l *link) next() uint64 {
	l.id++
	return l.id
}

// usable reports whether another request can follow one that ended so.
func (l *link) usable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code != CodeShuttingDown && !l.over
}

// roundTrip sends a line and returns the result in the line that comes back.
func (l *link) roundTrip(ctx context.Context, request []byte) (json.RawMessage, error) {
	// The context's end cuts short what waits for the daemon.
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
	if l.plain != nil && l.taken(line) {
		return nil, nil
	}
	return l.answer(line)
}

// taken lets plain have the result in an answer that is written as our daemon
// does.
func (l *link) taken(line []byte) bool {
	begin := strconv.AppendUint([]byte(`{"jsonrpc":"2.0","id":`), l.id, 10)
	rest, ok := bytes.CutPrefix(line, append(begin, `,"result":`...))
	if !ok {
		return false
	}
	rest, ok = bytes.CutSuffix(rest, []byte("}"))
	return ok && l.plain(rest)
}

func (l *link) exchange(request []byte) ([]byte, error) {
	n, writeErr := l.net.Write(request)
	if writeErr != nil && n == 0 {
		writeErr = fmt.Errorf("%w: %w", errNotSent, writeErr)
	}
	// The daemon may have said why it closed the connection.
	line, err := l.line()
	if writeErr != nil && err != nil {
		return nil, writeErr
	}
	return line, err
}

// keptLine is how long a line's room is kept for the next: a page.
const keptLine = 1 << 20

// line reads a line of at most maxReply bytes, valid until the next one.
func (l *link) line() ([]byte, error) {
	line := l.buf[:0]
	defer func() {
		if l.buf = nil; cap(line) <= keptLine {
			l.buf = line[:0]
		}
	}()
	for {
		part, err := l.in.ReadSlice('\n')
		if len(line)+len(part) > l.maxReply {
			return nil, fmt.Errorf("the reply has more than %d bytes", l.maxReply)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// answer takes a response (JSON-RPC 2.0, section 5) apart.
func (l *link) answer(line []byte) (json.RawMessage, error) {
	var m members
	s := scanner{data: line}
	if err := s.all(&m); err != nil {
		return nil, fmt.Errorf("the daemon's reply: %w", err)
	}
	id, result, failure := m.take("id", true), m.take("result", false), m.take("error", false)
	if m.failed() || (result == nil) == (failure == nil) {
		return nil, errors.New("the daemon's reply is no JSON-RPC response")
	}
	ours := string(id) == strconv.FormatUint(l.id, 10)
	if failure == nil {
		if !ours {
			return nil, fmt.Errorf("the daemon's reply is to request %s, not to %d", clip(id), l.id)
		}
		return result, nil
	}
	e := new(Error)
	if err := json.Unmarshal(failure, e); err != nil {
		return nil, fmt.Errorf("the daemon's error: %w", err)
	}
	l.over = !ours
	if l.over && e.Code == CodeRateLimited {
		e = e.Because(errTurnedAway)
	}
	return nil, e
}
