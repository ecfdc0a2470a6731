package launch

import (
	"encoding/base64"
	"encoding/json/jsontext"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/cima-project/cima/logs/canonical"
)

// form is a member's value in canonical JSON: integers beyond 2^53, and other numbers
// that are none, are strings, and strings that are not UTF-8 are {"b64": …}. What has no
// such form, because an object has a name twice or one that is not UTF-8, or because it
// nests too deep, is {"b64": …} of its bytes.
func form(raw jsontext.Value) jsontext.Value {
	exactly, err := appendExact(nil, raw, maxDepth)
	if err == nil {
		var text []byte
		if text, err = canonical.Marshal(jsontext.Value(exactly)); err == nil {
			return text
		}
	}
	return inBase64(raw)
}

// maxDepth bounds how deep a value may nest that is shown as JSON.
const maxDepth = 16

func inBase64(b []byte) jsontext.Value {
	return fmt.Appendf(nil, `{"b64":%q}`, base64.StdEncoding.EncodeToString(b))
}

// appendExact writes a value with all that JCS would change as strings.
func appendExact(out []byte, raw jsontext.Value, depth int) ([]byte, error) {
	switch raw.Kind() {
	case '{', '[':
		if depth == 0 {
			return nil, fmt.Errorf("nests deeper than %d", maxDepth)
		}
		open, end := byte('['), byte(']')
		if raw.Kind() == '{' {
			open, end = '{', '}'
		}
		out = append(out, open)
		for name, value := range children(raw) {
			if out[len(out)-1] != open {
				out = append(out, ',')
			}
			if open == '{' {
				if !utf8.ValidString(name) {
					return nil, fmt.Errorf("%q is not UTF-8", name)
				}
				out, _ = jsontext.AppendQuote(out, name)
				out = append(out, ':')
			}
			var err error
			if out, err = appendExact(out, value, depth-1); err != nil {
				return nil, err
			}
		}
		return append(out, end), nil
	case '"':
		text := unescape(raw[1 : len(raw)-1])
		if !utf8.Valid(text) {
			return append(out, inBase64(text)...), nil
		}
		return jsontext.AppendQuote(out, text)
	case '0':
		if n, err := strconv.ParseInt(string(raw), 10, 64); err != nil || n > exact || n < -exact {
			return strconv.AppendQuote(out, string(raw)), nil
		}
	}
	return append(out, raw...), nil
}

// isZero reports whether a value says no more than its absence would.
func isZero(raw jsontext.Value) bool {
	switch raw.Kind() {
	case '{', '[':
		for range children(raw) {
			return false
		}
		return true
	case '"':
		return string(raw) == `""`
	}
	return len(raw) == 0 || string(raw) == "null" || string(raw) == "false"
}
