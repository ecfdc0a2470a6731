package server

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/rpc"
)

const (
	firstBuffer = 1 << 10 // bytes that a connection begins to read into
	uncharged   = 4 << 10 // bytes of a line or reply that are not charged
)

// errStopped ends the reading of a connection of a server that stops.
var errStopped = errors.New("the server stops")

// framing reads and writes lines on one connection, bounded in length and time. One
// goroutine reads; those that write take turns.
type framing struct {
	net    net.Conn
	limits *Limits
	caller hold
	open   atomic.Int32 // lines that were read and not yet answered

	stopped atomic.Bool // see stop

	buf      []byte
	from, to int // the part of buf that was read and not yet returned
	charged  int64

	readBy time.Time // the read deadline that is set
	timed  bool      // it is the deadline of a line that is half read

	writing sync.Mutex
	writeBy time.Time // the write deadline that is set
}

// next returns the next line without its newline, valid until the next call of next.
// If the error is an *rpc.Error, the caller gets it before the connection is closed.
// io.EOF is the orderly end of the connection.
func (f *framing) next() ([]byte, error) {
	line, err := f.line()
	switch {
	case err == nil:
		return line, nil
	case f.from == f.to:
	case errors.Is(err, io.EOF):
		return nil, rpc.Errorf(rpc.CodeParseError, "the last line must end with a newline")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, rpc.Errorf(rpc.CodeInvalidRequest, "a line must not take longer than %v: connection closed", f.limits.LineTime)
	}
	return nil, err
}

func (f *framing) line() ([]byte, error) {
	looked := f.from
	for {
		if i := bytes.IndexByte(f.buf[looked:f.to], '\n'); i >= 0 {
			line := f.buf[f.from : looked+i]
			f.from = looked + i + 1
			f.timed = false
			return line, nil
		}
		if err := f.grow(); err != nil {
			return nil, err
		}
		looked = f.to
		if err := f.read(); err != nil {
			return nil, err
		}
	}
}

// grow lets the buffer hold at least one byte more.
func (f *framing) grow() error {
	most := f.limits.Line + 1
	switch {
	case f.from == f.to && len(f.buf) != firstBuffer:
		// There is nothing to keep, so the buffer of a long line is given up.
		f.resize(firstBuffer)
	case f.from > 0:
		copy(f.buf, f.buf[f.from:f.to])
	case f.to < len(f.buf):
		return nil
	case len(f.buf) >= most:
		return rpc.TooLarge(int64(most-1), "a line must have at most %d bytes: connection closed", most-1)
	case !f.resize(min(2*len(f.buf), most)):
		return rpc.RateLimited(time.Second, "too many long lines at once: try again; connection closed")
	}
	f.from, f.to = 0, f.to-f.from
	return nil
}

// resize replaces the buffer, false where the caller may hold no more.
func (f *framing) resize(size int) bool {
	charge := int64(0)
	if size > uncharged {
		charge = int64(size)
	}
	if !f.caller.charge(charge - f.charged) {
		return false
	}
	f.charged = charge
	buf := make([]byte, size)
	copy(buf, f.buf[f.from:f.to])
	f.buf = buf
	return true
}

// read reads what there is, and waits no longer than the limits allow.
func (f *framing) read() error {
	begun := f.to > 0 // a line is half read; grow has moved it to the beginning
	wait, idle := f.limits.LineTime, f.limits.Idle
	if !begun {
		wait = idle
	}
	// Setting a deadline costs as much as a small read. So the deadline of an idle
	// connection stays while it is far enough away, and that of a line is set once.
	now := time.Now()
	left := f.readBy.Sub(now)
	if begun && !f.timed || !begun && (left < idle*3/4 || left > idle) {
		if err := f.readUntil(now.Add(wait)); err != nil {
			return err
		}
	}
	f.timed = begun
	for {
		if f.stopped.Load() {
			return errStopped
		}
		n, err := f.net.Read(f.buf[f.to:])
		f.to += n
		if n > 0 {
			return nil
		}
		if f.stopped.Load() {
			return errStopped
		}
		if begun || f.open.Load() == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		// A caller that waits for an answer is not idle.
		if err := f.readUntil(time.Now().Add(idle)); err != nil {
			return err
		}
	}
}

// stop ends reading: the goroutine that reads takes nothing more from the socket, so
// that the peer of a connection that is closed can tell which lines were not read
// (ECONNRESET). It must be called until reading has ended, because the goroutine may
// set its deadline meanwhile.
func (f *framing) stop() {
	f.stopped.Store(true)
	f.net.SetReadDeadline(time.Unix(1, 0))
}

func (f *framing) readUntil(t time.Time) error {
	f.readBy = t
	return f.net.SetReadDeadline(t)
}

// write writes one line. After an error the connection must be closed: half of the
// line may have been written.
func (f *framing) write(line []byte) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	return f.writeLocked(line)
}

// last writes one line and closes the connection before any other is written.
func (f *framing) last(line []byte) {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.writeLocked(line) // the connection is closed all the same if that fails
	f.net.Close()
}

// writeLocked is write; f.writing must be locked.
func (f *framing) writeLocked(line []byte) error {
	// As with reading, the deadline is not set anew each time: at least
	// Limits.Write is left, and at most twice that.
	wait := f.limits.Write
	if now := time.Now(); f.writeBy.Sub(now) < wait {
		f.writeBy = now.Add(2 * wait)
		if err := f.net.SetWriteDeadline(f.writeBy); err != nil {
			return err
		}
	}
	_, err := f.net.Write(line)
	return err
}
