package canonical

import (
	"bytes"
	"encoding/base64"
	"slices"
)

// UnmarshalApart is UnmarshalSpelled of an object whose last member, last, is a long array
// of objects with one member each, in base64, and has no white space: the rest is read as
// ever, with an empty array in its place, and each of those objects by its bytes. each gets
// their members, and says whether they may be so. It reads nothing that UnmarshalSpelled
// refuses; false means that the text has another form, or is refused.
func UnmarshalApart(text []byte, v any, last string, each func(name string, value []byte) bool) bool {
	begins, ends := []byte(`"`+last+`":[`), []byte(`]}`)
	// A quote in a string is escaped, so this is a name. It is one of the object itself if
	// what stands before it needs one bracket to be whole.
	at := bytes.Index(text, begins)
	if at < 0 || !bytes.HasSuffix(text, ends) || len(text)-len(ends) < at+len(begins) {
		return false
	}
	if UnmarshalSpelled(slices.Concat(text[:at], begins, ends), v) != nil {
		return false
	}
	return readRecords(text[at+len(begins):len(text)-len(ends)], each)
}

// strictBase64 decodes but for line breaks, which it would skip.
var strictBase64 = base64.StdEncoding.Strict()

// readRecords reads such objects, which have no white space and, in base64, no escapes.
func readRecords(text []byte, each func(name string, value []byte) bool) bool {
	if len(text) == 0 {
		return true
	}
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 {
		return false
	}
	room := make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))) // for all of them
	for {
		rest, ok := bytes.CutPrefix(text, []byte(`{"`))
		name, rest, named := bytes.Cut(rest, []byte(`":"`))
		digits, rest, ended := bytes.Cut(rest, []byte(`"}`))
		if !ok || !named || !ended || bytes.IndexByte(name, '"') >= 0 {
			return false
		}
		value, err := strictBase64.AppendDecode(room, digits)
		if err != nil || !each(string(name), value[:len(value):len(value)]) {
			return false
		}
		room = value[len(value):]
		if text = rest; len(text) == 0 {
			return true
		}
		if text, ok = bytes.CutPrefix(text, []byte(",")); !ok {
			return false
		}
	}
}
