package dcap

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
)

// Plain returns the bytes of a quote that is text: hex with or without 0x, base64, or a
// CMW record in JSON (["type", "base64url"]). What is none of these it returns as it is.
// A quote itself begins with its version, which is no text.
func Plain(raw []byte) (quote []byte, form string) {
	text := bytes.TrimSpace(raw)
	if len(text) < 8 || text[0] < ' ' || bytes.ContainsFunc(text[:8], func(r rune) bool { return r < ' ' || r > '~' }) {
		return raw, ""
	}
	if text[0] == '[' {
		if b := fromCMW(text); b != nil {
			return b, "CMW"
		}
		return raw, ""
	}
	joined := bytes.Join(bytes.Fields(text), nil)
	digits := bytes.TrimPrefix(joined, []byte("0x"))
	if b := make([]byte, hex.DecodedLen(len(digits))); len(digits)%2 == 0 {
		if _, err := hex.Decode(b, digits); err == nil {
			return b, "hex"
		}
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := encoding.Strict().DecodeString(string(joined)); err == nil {
			return b, "base64"
		}
	}
	return raw, ""
}

// fromCMW reads a record of a conceptual message wrapper (draft-ietf-rats-msg-wrap).
func fromCMW(text []byte) []byte {
	var record []any
	if json.Unmarshal(text, &record) != nil || len(record) < 2 || len(record) > 3 {
		return nil
	}
	value, _ := record[1].(string)
	b, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}
