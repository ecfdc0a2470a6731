package imds

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzRead: whatever stands on a line, a request that passes asks for one thing, and what was
// read is written and read again as it was.
func FuzzRead(f *testing.F) {
	for _, text := range []string{`{"certificates":true}`, `{"report":"AAAA"}`, `{"quote":"AAAA"}`, `{"certificates":["AAAA",""]}`, `{"error":"no"}`, `{"report":null}`, "", "{}{}"} {
		f.Add(text + "\n")
	}
	f.Add(strings.Repeat("x", maxLine+1))
	f.Fuzz(func(t *testing.T, text string) {
		var q, again Request
		if Read(strings.NewReader(text), &q) == nil && q.Check() == nil {
			if q.Certificates == (len(q.Report) == reportSize) {
				t.Errorf("%+v asks for none or both", q)
			}
			var line bytes.Buffer
			if err := Write(&line, q); err != nil || Read(&line, &again) != nil || again.Certificates != q.Certificates || !bytes.Equal(again.Report, q.Report) {
				t.Errorf("%+v becomes %+v, %v", q, again, err)
			}
		}
		var r Reply
		if Read(strings.NewReader(text), &r) == nil && strings.ContainsAny(printable(r.Error), "\n\x1b") {
			t.Errorf("%q goes to the journal", printable(r.Error))
		}
	})
}
