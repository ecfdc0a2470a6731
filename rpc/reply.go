package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

const (
	headroom  = 192     // bytes for what stands before a result: envelope and id
	maxID     = 128     // bytes of a request's id, as written
	keptReply = 1 << 10 // bytes of a buffer that is used again
)

// A reply is the rest of an answer's line, from `,"result":` or `,"error":`
// on, with room for its beginning.
//
// A handler's result does not go through jrpc2: that marshals it, copies it
// into the envelope and, where it is JSON already, reads it all once more,
// which costs a reply of a megabyte nine tenths of its speed.
type reply struct {
	number  any // its place in conn.busy, boxed once
	charged int64
	buf     bytes.Buffer
	enc     *json.Encoder
}

func newReply(number int) *reply {
	r := &reply{number: number}
	r.enc = json.NewEncoder(&r.buf)
	r.enc.SetEscapeHTML(false) // RFC 8785's spelling, as evidence wants it
	return r
}

func (r *reply) reset() {
	if r.buf.Cap() > keptReply {
		r.buf = bytes.Buffer{}
	}
	r.buf.Reset()
}

var nothing [headroom]byte

// A jsonAppender writes its own JSON, on one line.
type jsonAppender interface {
	AppendJSON(b []byte) ([]byte, error)
}

// fill writes a result of at most most bytes.
func (r *reply) fill(result any, most int) error {
	r.buf.Reset()
	r.buf.Write(nothing[:])
	r.buf.WriteString(placeholder)
	from := r.buf.Len()
	switch v := result.(type) {
	case json.RawMessage:
		if bytes.IndexByte(v, '\n') >= 0 || len(v) == 0 {
			return errors.New("a result that is JSON already stands on one line")
		}
		if len(v) <= most { // else it is not worth copying
			r.buf.Write(v)
		} else {
			return replyTooLarge(len(v), most)
		}
	case jsonAppender:
		b, err := v.AppendJSON(r.buf.AvailableBuffer())
		if err != nil {
			return fmt.Errorf("result: %w", err)
		}
		r.buf.Write(b)
	default:
		if err := r.enc.Encode(result); err != nil {
			return fmt.Errorf("result: %w", err)
		}
		r.buf.Truncate(r.buf.Len() - 1) // Encode's newline
	}
	if n := r.buf.Len() - from; n > most {
		return replyTooLarge(n, most)
	}
	r.buf.WriteString("}\n")
	return nil
}

func replyTooLarge(n, most int) *Error {
	return TooLarge(int64(most), "the reply has %d bytes, more than the limit of %d: ask for less at a time", n, most)
}

// fillError writes an error.
func (r *reply) fillError(e *Error) {
	r.reset()
	r.buf.Write(nothing[:])
	r.buf.WriteString(`,"error":`)
	r.buf.Write(appendError(r.buf.AvailableBuffer(), e))
	r.buf.WriteString("}\n")
}

// under is the whole line, beginning with head.
func (r *reply) under(head []byte) []byte {
	line := r.buf.Bytes()
	if len(head) > headroom {
		return append(bytes.Clone(head), line[headroom:]...)
	}
	copy(line[headroom-len(head):], head)
	return line[headroom-len(head):]
}
