package canonical

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// An Error says where JSON is not what it must be, and what it must be. It repeats
// at most 64 bytes of any name or value.
type Error struct {
	Offset int    // byte at which it shows, from 0
	Member string // which member, as a path ("claims.log.count"), "" where none in particular
	Reason string
}

// Error says where and why.
func (e *Error) Error() string {
	if e.Member != "" && !strings.Contains(e.Reason, fmt.Sprintf("%q", e.Member)) {
		return fmt.Sprintf("member %q: %s", e.Member, e.Reason)
	}
	if e.Member != "" {
		return e.Reason
	}
	return fmt.Sprintf("%s (byte %d)", e.Reason, e.Offset)
}

// explain makes an Error of an error of encoding/json/v2, which names Go types and
// repeats names and values whole.
func explain(err error) error {
	if ours := new(Error); errors.As(err, &ours) {
		return ours
	}
	if syntax := new(jsontext.SyntacticError); errors.As(err, &syntax) {
		e := &Error{Offset: int(syntax.ByteOffset), Reason: "must be JSON: " + Clip(syntax.Err.Error(), 128)}
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			e.Member = member(syntax.JSONPointer)
			e.Reason = fmt.Sprintf("member %q appears twice", Clip(syntax.JSONPointer.LastToken(), 64))
		case errors.Is(err, io.ErrUnexpectedEOF):
			e.Reason = "must be JSON: it ends in the middle of a value"
		}
		return e
	}
	if errors.Is(err, io.EOF) {
		return &Error{Reason: "must be JSON: there is no value"}
	}
	if wrong := new(json.SemanticError); errors.As(err, &wrong) {
		e := &Error{Offset: int(wrong.ByteOffset), Member: member(wrong.JSONPointer), Reason: "is of the wrong kind"}
		switch {
		case wrong.GoType != nil && shapeOf(wrong.GoType).kind == base64Text:
			e.Reason = shapeOf(wrong.GoType).must()
		case errors.Is(err, strconv.ErrRange):
			e.Reason = "must be in range: it is too large, or below 0"
		case wrong.Err != nil:
			e.Reason = Clip(wrong.Err.Error(), 128)
		}
		return e
	}
	return &Error{Reason: Clip(err.Error(), 128)}
}

// member writes a JSON pointer (RFC 6901) as a path: "runtime_log[3].event".
func member(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		switch {
		case token != "" && strings.Trim(token, "0123456789") == "":
			fmt.Fprintf(&b, "[%s]", Clip(token, 64))
			continue
		case b.Len() > 0:
			b.WriteByte('.')
		}
		b.WriteString(Clip(token, 64))
	}
	return b.String()
}

// Clip cuts text after max bytes, so that what somebody sent does not fill a message.
func Clip(text string, max int) string {
	if len(text) <= max {
		return text
	}
	return strings.ToValidUTF8(text[:max], "") + "…"
}
