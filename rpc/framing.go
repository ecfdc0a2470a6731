package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstBuffer = 1 << 10 // bytes that a connection begins to read into
	free        = 4 << 10 // bytes of a line or reply that are not charged
	maxBad      = 16      // lines that are no request, before the connection is dropped
)

// errDropped ends a connection that broke a limit and was told so.
var errDropped = errors.New("connection dropped")

// A conn frames the messages of one connection: a line each way, bounded in
// length, number and time. It is a jrpc2 channel.Channel. What is no request
// is answered here, so that each message that Recv returns is one call with
// an id, and gets exactly one Send.
type conn struct {
	net    net.Conn
	server *Server
	ctx    context.Context // what Attach made
	refuse *Error          // what Attach said: the answer to everything
	caller *caller

	// For Recv alone.
	buf      []byte
	from, to int // what was read and not yet returned
	charged  int64
	readBy   time.Time // the deadline that is set
	timed    bool      // it is that of a line half read
	bad      int

	unanswered atomic.Int32 // calls that Send has not been given
	unwritten  atomic.Int32 // calls whose answer is not written whole

	slots chan *reply // replies that are free to be filled
	busy  []*reply    // by number

	mu      sync.Mutex // for writing
	writeBy time.Time  // the deadline that is set
}

// Recv returns the next call, valid until the next Recv.
func (c *conn) Recv() ([]byte, error) {
	for {
		line, err := c.line()
		if err != nil {
			return nil, c.end(err)
		}
		id, bad := parseRequest(line)
		if bad != nil {
			c.bad++
			c.answer(id, bad)
			if c.bad >= maxBad {
				return nil, c.drop()
			}
			continue
		}
		c.unwritten.Add(1)
		if c.server.draining.Load() {
			c.answer(id, ShuttingDown())
			c.unwritten.Add(-1)
			continue
		}
		if most := c.server.limits.InFlight; int(c.unanswered.Add(1)) > most {
			c.unwritten.Add(-1)
			c.answer(nil, RateLimited(time.Second, "more than %d requests without waiting for answers: connection closed", most))
			return nil, c.drop()
		}
		return line, nil
	}
}

func (c *conn) drop() error {
	c.server.callers.dropped.Add(1)
	c.Close()
	return errDropped
}

// end turns an error of reading into the connection's end. Who has only
// closed its writing half still gets its answers.
func (c *conn) end(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		if c.from < c.to {
			c.answer(nil, Errorf(CodeParseError, "the last line has no newline"))
		}
		for c.unwritten.Load() > 0 && !hungUp(c.net) {
			time.Sleep(10 * time.Millisecond)
		}
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded) && c.from < c.to:
		c.answer(nil, Errorf(CodeInvalidRequest, "a line takes no longer than %v: connection closed", c.server.limits.LineTime))
		return c.drop()
	}
	return err
}

// hungUp reports whether the peer has closed both halves, or the connection
// is no socket that could tell.
func hungUp(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	gone := true
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		gone = err != nil && err != unix.EINTR || n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || gone
}

// line returns the next line without its newline.
func (c *conn) line() ([]byte, error) {
	looked := c.from
	for {
		if i := bytes.IndexByte(c.buf[looked:c.to], '\n'); i >= 0 {
			line := c.buf[c.from : looked+i]
			c.from = looked + i + 1
			c.timed = false
			return line, nil
		}
		if err := c.room(); err != nil {
			return nil, err
		}
		looked = c.to
		if err := c.read(); err != nil {
			return nil, err
		}
	}
}

// room makes room in the buffer for at least a byte.
func (c *conn) room() error {
	most := c.server.limits.Line + 1
	switch {
	case c.from == c.to && len(c.buf) != firstBuffer:
		// Nothing is kept: a long line's buffer goes back.
		c.resize(firstBuffer)
	case c.from > 0:
		copy(c.buf, c.buf[c.from:c.to])
	case c.to < len(c.buf):
		return nil
	case len(c.buf) >= most:
		c.answer(nil, TooLarge(int64(most-1), "a line has at most %d bytes: connection closed", most-1))
		return c.drop()
	case !c.resize(min(2*len(c.buf), most)):
		c.answer(nil, RateLimited(time.Second, "too many long lines at once: try again; connection closed"))
		return c.drop()
	}
	c.from, c.to = 0, c.to-c.from
	return nil
}

// resize replaces the buffer, false where the caller may hold no more.
func (c *conn) resize(size int) bool {
	charge := int64(0)
	if size > free {
		charge = int64(size)
	}
	if !c.caller.take(charge - c.charged) {
		return false
	}
	c.charged = charge
	buf := make([]byte, size)
	copy(buf, c.buf[c.from:c.to])
	c.buf = buf
	return true
}

// read reads what there is, waiting at most as long as the limits say.
func (c *conn) read() error {
	begun := c.to > 0 // a line; room has moved it to the beginning
	wait, idle := c.server.limits.LineTime, c.server.limits.Idle
	if !begun {
		wait = idle
	}
	// Setting a deadline costs as much as a small read: while that for idle
	// connections is far enough away it stays. A line's own is set once.
	now := time.Now()
	left := c.readBy.Sub(now)
	if begun && !c.timed || !begun && (left < idle*3/4 || left > idle) {
		if err := c.readUntil(now.Add(wait)); err != nil {
			return err
		}
	}
	c.timed = begun
	for {
		n, err := c.net.Read(c.buf[c.to:])
		c.to += n
		if n > 0 {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || begun || c.unwritten.Load() == 0 {
			return err
		}
		// Idle is who has nothing to wait for.
		if err := c.readUntil(time.Now().Add(wait)); err != nil {
			return err
		}
	}
}

func (c *conn) readUntil(t time.Time) error {
	c.readBy = t
	return c.net.SetReadDeadline(t)
}
