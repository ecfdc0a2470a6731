package ima

import (
	"bytes"
	"io"
)

// need reads until the buffer holds at least n bytes. At the end of the source it
// returns io.EOF, and keeps the bytes that are left for a later call.
func (r *Reader) need(n int) error {
	for r.end-r.at < n {
		if err := r.fill(); err != nil {
			if err == io.EOF && r.final && r.end > r.at && n > 1 {
				r.skip(io.ErrUnexpectedEOF)
				r.at = r.end
			}
			return err
		}
	}
	return nil
}

// until returns what is left before the first newline that is at least from bytes away,
// nil where that is longer than maxEntry. It consumes nothing.
func (r *Reader) until(from int) ([]byte, error) {
	seen := from
	for {
		if r.end-r.at > seen {
			if i := bytes.IndexByte(r.buf[r.at+seen:r.end], '\n'); i >= 0 && seen+i <= maxEntry {
				return r.buf[r.at : r.at+seen+i], nil
			}
			seen = r.end - r.at
		}
		if seen > maxEntry {
			return nil, nil
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && r.final && r.end-r.at > from {
				return r.buf[r.at:r.end], nil
			}
			return nil, err
		}
	}
}

// dropRest skips the rest of a line or record that was too long.
func (r *Reader) dropRest() error {
	for r.drop > 0 || r.dropLine {
		if err := r.need(1); err != nil {
			return err
		}
		n := r.end - r.at
		if !r.dropLine {
			n = int(min(uint64(n), r.drop))
			r.drop -= uint64(n)
		} else if i := bytes.IndexByte(r.buf[r.at:r.end], '\n'); i >= 0 {
			n, r.dropLine = i+1, false
		}
		r.at += n
	}
	return nil
}

// larger is the size of the next buffer: twice this one's. For a source in memory it is
// at once what its longest entry can need, because each buffer soon is garbage.
func (r *Reader) larger() int {
	size := max(minBuffer, 2*len(r.buf))
	if src, ok := r.src.(interface{ Len() int }); ok && len(r.buf) > 0 {
		size = min(r.end+src.Len(), maxEntry+minBuffer)
	}
	return max(size, len(r.buf)+1)
}

// fill reads once more. It grows the buffer only when an entry needs it.
func (r *Reader) fill() error {
	if r.at > 0 && (r.at == r.end || r.end == len(r.buf)) {
		r.end = copy(r.buf, r.buf[r.at:r.end])
		r.at = 0
	}
	if r.end == len(r.buf) {
		grown := make([]byte, r.larger())
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			return nil // the next read returns the error again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
