package vectors

import (
	"crypto/sha512"
	"encoding/json"
	"encoding/json/jsontext"
	"os"
	"testing"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// Odd texts: each has one meaning and the form of RFC 8785, or is refused. Clients and
// check.py read the same table.
func TestTexts(t *testing.T) {
	var texts []struct {
		About, Text string
		Form        *string
	}
	b, err := os.ReadFile("texts.json")
	if err == nil {
		err = json.Unmarshal(b, &texts)
	}
	if err != nil || len(texts) < 80 {
		t.Fatalf("%d texts, %v", len(texts), err)
	}
	for _, v := range texts {
		err := canonical.CheckSpelling([]byte(v.Text))
		if (err == nil) != (v.Form != nil) {
			t.Errorf("%s: %.60q: %v", v.About, v.Text, err)
		}
		if v.Form == nil {
			continue
		}
		form, err := canonical.Marshal(jsontext.Value(v.Text))
		if err != nil || string(form) != *v.Form {
			t.Errorf("%s: %q, %v, want %q", v.About, form, err, *v.Form)
		}
		if err := canonical.CheckForm(form, canonical.MaxDepth); err != nil {
			t.Errorf("%s: %v", v.About, err)
		}
		if got, err := rpc.ReportData(jsontext.Value(v.Text)); err != nil || got != sha512.Sum512([]byte(*v.Form)) {
			t.Errorf("%s: %x, %v", v.About, got, err)
		}
	}
}
