package server

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/cima-project/cima/rpc"
)

// keptReply is the size of the largest buffer that is reused for the next reply.
const keptReply = 1 << 10

// A reply is the line that answers a request.
type reply struct {
	buf  bytes.Buffer
	from int // where the result begins
}

func (r *reply) reset() {
	if r.buf.Cap() > keptReply {
		r.buf = bytes.Buffer{}
	}
	r.buf.Reset()
}

// begin writes what comes before the result or the error.
func (r *reply) begin(id []byte, member string) {
	r.reset()
	r.buf.WriteString(`{"jsonrpc":"2.0","id":`)
	if id == nil {
		r.buf.WriteString("null")
	}
	r.buf.Write(id)
	r.buf.WriteString(member)
	r.from = r.buf.Len()
}

// result is the result alone.
func (r *reply) result() []byte {
	line := r.buf.Bytes()
	return line[r.from : len(line)-len("}\n")]
}

// A jsonAppender writes itself as JSON, on one line.
type jsonAppender interface {
	AppendJSON(b []byte) ([]byte, error)
}

// spelling is how results are written that don't write themselves: nil is null, and
// strings are spelled as RFC 8785 spells them, because raw JSON in a result may be
// hashed in that spelling.
var spelling = json.JoinOptions(json.Deterministic(true), json.FormatNilSliceAsNull(true),
	json.FormatNilMapAsNull(true), jsontext.AllowInvalidUTF8(true))

// encode writes an answer with a result of at most max bytes.
func (r *reply) encode(id []byte, result any, max int) error {
	r.begin(id, `,"result":`)
	switch v := result.(type) {
	case jsontext.Value:
		if bytes.IndexByte(v, '\n') >= 0 || len(v) == 0 {
			return errors.New("a result that is raw JSON must be on one line")
		}
		if len(v) > max { // not worth copying
			return replyTooLarge(len(v), max)
		}
		r.buf.Write(v)
	case jsonAppender:
		b, err := v.AppendJSON(r.buf.Bytes())
		if err != nil {
			return fmt.Errorf("result: %w", err)
		}
		r.buf = *bytes.NewBuffer(b) // not copied, because it may be long
	default:
		if err := json.MarshalWrite(&r.buf, result, spelling); err != nil {
			return fmt.Errorf("result: %w", err)
		}
	}
	if n := r.buf.Len() - r.from; n > max {
		return replyTooLarge(n, max)
	}
	r.buf.WriteString("}\n")
	return nil
}

func replyTooLarge(n, max int) *rpc.Error {
	return rpc.TooLarge(int64(max), "the reply has %d bytes, more than the limit of %d: ask for less at a time", n, max)
}

// refusal writes an answer with an error; id is nil if none is known.
func (r *reply) refusal(id []byte, e *rpc.Error) {
	r.begin(id, `,"error":`)
	r.buf.Write(appendError(r.buf.AvailableBuffer(), e))
	r.buf.WriteString("}\n")
}

// appendError writes the value of the member error. It can't fail, because an Error
// holds only strings and numbers.
func appendError(b []byte, e *rpc.Error) []byte {
	text, err := json.Marshal(e, spelling, jsontext.EscapeForHTML(true), jsontext.EscapeForJS(true)) // as jrpc2 does
	if err != nil {
		return append(b, `{"code":-32603,"message":"internal error"}`...)
	}
	return append(b, text...)
}
