// Package lines answers: how is a line read that may be long, and reading it interrupted?
package lines

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
)

// FirstRead is the first size of the buffer for a line, and keptLine the largest size
// that is kept for the next line: a page of a log.
const (
	FirstRead = 16 << 10
	keptLine  = 2 << 20
)

// A Reader reads lines of at most Most bytes. What it has read of a line stays when reading
// is interrupted.
type Reader struct {
	In   io.Reader
	Most int

	// Cut is the error of a last line that has no end; nil: io.ErrUnexpectedEOF.
	Cut func(line []byte) error

	buf    []byte // kept: a page of a log is as long as the one before
	past   int    // where the line that was returned last ends in buf
	looked int    // how many bytes from past on have no newline
	have   int    // how many bytes of buf were read
}

// Next returns a line without its newline, valid until the next one.
func (r *Reader) Next() ([]byte, error) {
	if r.past > 0 {
		r.drop()
	}
	for {
		if i := bytes.IndexByte(r.buf[r.looked:r.have], '\n'); i >= 0 && r.looked+i < r.Most {
			r.past, r.looked = r.looked+i+1, 0
			return r.buf[:r.past-1], nil
		}
		if r.looked = r.have; r.have > r.Most {
			return nil, fmt.Errorf("the reply must have at most %d bytes", r.Most)
		}
		if r.have == len(r.buf) {
			r.grow(min(max(FirstRead, 4*r.have), r.Most+1))
		}
		n, err := r.In.Read(r.buf[r.have:])
		r.have += n
		switch {
		case n > 0 || err == nil:
		case errors.Is(err, io.EOF) && r.have > 0:
			return nil, cmp.Or(r.Cut(r.buf[:r.have]), io.ErrUnexpectedEOF)
		default:
			return nil, err
		}
	}
}

// drop gives up the line that was returned last, and a long buffer.
func (r *Reader) drop() {
	rest := r.buf[r.past:r.have]
	if len(r.buf) > keptLine {
		r.buf = bytes.Clone(rest)
	} else {
		copy(r.buf, rest)
	}
	r.past, r.have = 0, len(rest)
}

// grow replaces the buffer by one of that size.
func (r *Reader) grow(size int) {
	buf := make([]byte, size)
	copy(buf, r.buf[:r.have])
	r.buf = buf
}
