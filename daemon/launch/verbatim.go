package launch

import (
	"bytes"
	"encoding/json"
	"encoding/json/jsontext"

	"github.com/cima-project/cima/logs/canonical"
)

// verbatim is the canonical form of a member's value, integers beyond 2^53 as strings,
// and nil where there is none.
func verbatim(raw jsontext.Value) jsontext.Value {
	if len(raw) == 0 || string(raw) == "null" || string(raw) == "[]" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	form, err := canonical.Marshal(exactNumbers(v))
	if err != nil {
		return nil
	}
	return form
}
