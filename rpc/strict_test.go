package rpc

import (
	"encoding/base64"
	"encoding/json"
	"testing"
)

// Strict takes nothing that encoding/json refuses.
func FuzzStrict(f *testing.F) {
	f.Add([]byte(`{"a":[1,-0.5e+3,true,null,"\u00e9\\"],"b":{"c":""}}`))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte("x"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		strict, canonical := Strict(data), StrictCanonical(data)
		if strict == nil && !json.Valid(data) {
			t.Fatalf("took %q", data)
		}
		if canonical == nil && strict != nil {
			t.Fatalf("canonical takes %q, which is not strict: %v", data, strict)
		}
	})
}
