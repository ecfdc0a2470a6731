package server

import (
	"encoding/json/jsontext"
	"testing"
)

// A result's strings are escaped as in CIMA's first version; raw JSON in it is not
// changed, because it may be hashed.
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
	want := `{"jsonrpc":"2.0","id":1,"result":{"text":"<&>\u2028\u2029é","raw":{"a":"<&>` + "\u2028\u2029" + `"},"list":null}}` + "\n"
	if got := r.buf.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
