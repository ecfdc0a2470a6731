package server

import (
	"encoding/json/jsontext"
	"testing"
)

// Results are spelled as RFC 8785 spells strings. Raw JSON in a result is not changed,
// because it may be hashed: the claims of a report.
func TestSpellingOfResults(t *testing.T) {
	type result struct {
		Text string         `json:"text"`
		Raw  jsontext.Value `json:"raw"`
		List []string       `json:"list"`
	}
	var r reply
	if err := r.encode([]byte("1"), result{"<&>\u2028\u2029é", jsontext.Value("{\"a\":\"<&>\u2028\u2029\"}"), nil}, 1<<10); err != nil {
		t.Fatal(err)
	}
	want := `{"jsonrpc":"2.0","id":1,"result":{"text":"<&>` + "\u2028\u2029" + `é","raw":{"a":"<&>` + "\u2028\u2029" + `"},"list":null}}` + "\n"
	if got := r.buf.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
