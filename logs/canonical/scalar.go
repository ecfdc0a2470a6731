package canonical

import (
	"bytes"
	"encoding/json/jsontext"
	"slices"
	"strconv"
	"strings"
)

// scalar judges a string, a number, true, false or null.
func (w *walker) scalar(k jsontext.Kind, raw jsontext.Value, s *shape) error {
	switch {
	case k == jsontext.KindString && w.spelled:
		if err := w.spelling(raw); err != nil {
			return err
		}
	case k == jsontext.KindNumber && !w.anyNumbers && !isDouble(raw):
		return w.wrong("must be a number that an IEEE double holds")
	case k == jsontext.KindNumber && w.spelled:
		if form := canonicalForm(raw); !bytes.Equal(form, raw) {
			return w.wrong("must be written %s (RFC 8785)", form)
		}
	}
	switch s.kind {
	case text:
		return w.textWithin(raw, s)
	case base64Text:
		if !isTight(raw) {
			return w.wrong("%s", s.must())
		}
		padding := len(raw) - len(bytes.TrimRight(raw[:len(raw)-1], "=")) - 1
		err := w.length(s, (len(raw)-2)/4*3-padding, "bytes")
		if err != nil && !isBase64(raw[1:len(raw)-1]) { // of what is no base64 nobody knows the length
			return w.wrong("%s", s.must())
		}
		return err
	case integer:
		if n, err := strconv.ParseInt(string(raw), 10, 64); !isInteger(raw) ||
			s.limits != nil && (err != nil || n < s.limits.Min || n > s.limits.Max) {
			return w.wrong("%s", s.must())
		}
	}
	return nil
}

// textWithin holds a string against its limits and words.
func (w *walker) textWithin(raw jsontext.Value, s *shape) error {
	if s.limits == nil && s.words == nil {
		return nil
	}
	text := raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		var err error
		if text, err = jsontext.AppendUnquote(nil, raw); err != nil {
			return err
		}
	}
	if last := len(s.words) - 1; last == 0 && s.words[0] != string(text) {
		return w.wrong("must be %q", s.words[0])
	} else if last > 0 && !slices.Contains(s.words, string(text)) {
		return w.wrong("must be %s or %s", strings.Join(s.words[:last], ", "), s.words[last])
	}
	return w.length(s, len(text), "bytes")
}

// isDouble reports whether a double holds a number: it does not overflow, and no
// digit of an integer is lost.
func isDouble(raw []byte) bool {
	whole := !bytes.ContainsAny(raw, ".eE")
	if whole && len(raw) <= 15 {
		return true
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || !whole {
		return err == nil
	}
	var digits [320]byte
	return string(strconv.AppendFloat(digits[:0], f, 'f', 0, 64)) == string(raw) ||
		string(strconv.AppendFloat(digits[:0], f, 'f', -1, 64)) == string(raw)
}

// isInteger reports whether a number is in plain digits.
func isInteger(raw []byte) bool {
	return !bytes.ContainsAny(raw, ".eE") && string(raw) != "-0"
}

// isTight reports whether a string, if it is base64, leaves no bits unused that
// aren't 0 (RFC 4648, section 3.5), and has no escapes.
func isTight(raw []byte) bool {
	text := raw[1 : len(raw)-1]
	body := bytes.TrimRight(text, "=")
	switch last := body[max(0, len(body)-1):]; {
	case len(last) == 0:
		return len(text) == 0
	case bytes.IndexByte(raw, '\\') >= 0:
		return false
	case len(text)-len(body) == 1:
		return bytes.Contains([]byte("AEIMQUYcgkosw048"), last)
	case len(text)-len(body) == 2:
		return bytes.Contains([]byte("AQgw"), last)
	}
	return true
}

// isBase64 reports whether text without escapes decodes.
func isBase64(text []byte) bool {
	_, err := strictBase64.Decode(make([]byte, strictBase64.DecodedLen(len(text))), text)
	return err == nil && !bytes.ContainsAny(text, "\r\n") // which encoding/base64 passes over
}

// spelling refuses a string that RFC 8785, section 3.2.2.2, would escape otherwise.
func (w *walker) spelling(raw jsontext.Value) error {
	if bytes.IndexByte(raw, '\\') < 0 {
		return nil
	}
	if form := canonicalForm(raw); !bytes.Equal(form, raw) {
		return w.wrong("must escape a character as RFC 8785 does")
	}
	return nil
}

// canonicalForm writes a string or a number that JSON's grammar allows.
func canonicalForm(raw jsontext.Value) []byte {
	form := raw.Clone()
	if form.Canonicalize() != nil {
		return nil
	}
	return form
}
