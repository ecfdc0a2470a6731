package launch

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is a string of any bytes. In JSON it is a string, or {"b64": "…"}
// (standard base64) where its bytes are not UTF-8, so that two of them are
// equal only if their bytes are.
type Text string

type base64Text struct {
	B64 []byte `json:"b64"`
}

// MarshalJSON writes a string or {"b64": …}.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64Text{[]byte(t)})
}

// UnmarshalJSON reads both forms. Bytes of a JSON string that are not UTF-8
// are kept, and so is a lone surrogate, as its three bytes: encoding/json
// would turn every one of them into U+FFFD.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var v base64Text
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		*t = Text(v.B64)
		return nil
	}
	if string(b) == "null" {
		return nil
	}
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return fmt.Errorf("%.20q must be a string", b)
	}
	*t = Text(unescape(b[1 : len(b)-1]))
	return nil
}

// unescape undoes the escapes of a JSON string (RFC 8259, section 7), whose syntax the
// decoder has checked.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(b[i+1:])
			i += 4
			if utf16.IsSurrogate(r) && i+2 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
				if whole := utf16.DecodeRune(r, hex4(b[i+3:])); whole != utf8.RuneError {
					r, i = whole, i+6
				}
			}
			out = appendRune(out, r)
		default:
			out = append(out, c)
		}
	}
	return out
}

func hex4(b []byte) rune {
	if len(b) < 4 {
		return utf8.RuneError
	}
	v, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return utf8.RuneError
	}
	return rune(v)
}

// appendRune is utf8.AppendRune, but a surrogate gets bytes of its own.
func appendRune(out []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(out, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
	}
	return utf8.AppendRune(out, r)
}

// Integer is written as a string where an IEEE double may not hold it, as canonical
// JSON wants.
type Integer int64

const exact = 1 << 53 // the integers up to here are doubles

// MarshalJSON writes a number or a string.
func (i Integer) MarshalJSON() ([]byte, error) {
	text := strconv.FormatInt(int64(i), 10)
	if i > exact || i < -exact {
		text = strconv.Quote(text)
	}
	return []byte(text), nil
}

// UnmarshalJSON reads both forms.
func (i *Integer) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	text := strings.TrimSuffix(strings.TrimPrefix(string(b), `"`), `"`)
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		*i = Integer(n)
		return nil
	}
	return fmt.Errorf("%.24q must be an integer of 64 bits", b)
}
