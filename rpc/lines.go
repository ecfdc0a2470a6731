package rpc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
)

// firstRead is the first size of the buffer for a line, and keptLine the largest size
// that is kept for the next line: a page of a log.
const (
	firstRead = 16 << 10
	keptLine  = 2 << 20
)

// A lineReader reads lines of at most most bytes. What it has read of a line stays when
// reading is interrupted.
type lineReader struct {
	in   net.Conn
	most int

	buf    []byte // kept: a page of a log is as long as the one before
	past   int    // where the line that was returned last ends in buf
	looked int    // how many bytes from past on have no newline
	have   int    // how many bytes of buf were read
}

// next returns a line without its newline, valid until the next one.
func (r *lineReader) next() ([]byte, error) {
	if r.past > 0 {
		r.drop()
	}
	for {
		if i := bytes.IndexByte(r.buf[r.looked:r.have], '\n'); i >= 0 && r.looked+i < r.most {
			r.past, r.looked = r.looked+i+1, 0
			return r.buf[:r.past-1], nil
		}
		if r.looked = r.have; r.have > r.most {
			return nil, fmt.Errorf("the reply must have at most %d bytes", r.most)
		}
		if r.have == len(r.buf) {
			r.grow(min(max(firstRead, 4*r.have), r.most+1))
		}
		n, err := r.in.Read(r.buf[r.have:])
		r.have += n
		switch {
		case n > 0 || err == nil:
		case errors.Is(err, io.EOF) && r.have > 0:
			return nil, cmp.Or(r.notOurs(r.buf[:r.have]), io.ErrUnexpectedEOF)
		default:
			return nil, err
		}
	}
}

// notOurs is the error of a line that is none of cimad's, or nil.
func (r *lineReader) notOurs(line []byte) error { return notOurs(r.in.RemoteAddr().String(), line) }

// drop gives up the line that was returned last, and a long buffer.
func (r *lineReader) drop() {
	rest := r.buf[r.past:r.have]
	if len(r.buf) > keptLine {
		r.buf = bytes.Clone(rest)
	} else {
		copy(r.buf, rest)
	}
	r.past, r.have = 0, len(rest)
}

// grow replaces the buffer by one of that size.
func (r *lineReader) grow(size int) {
	buf := make([]byte, size)
	copy(buf, r.buf[:r.have])
	r.buf = buf
}
