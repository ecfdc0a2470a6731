package form

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTextOfCMW: any string of a bundle survives, and no part is accepted twice
// or as another text.
func TestTextOfCMW(t *testing.T) {
	e := evidence(t, bootLog(false))
	for _, e.TEE = range []string{"td<x>&", "\u2028\u2029", "\b\f\n\x01\x7f", "\"\\/", "é\ufffd\ufeff😀"} {
		for _, form := range []string{CMW, CMWCBOR} {
			text, err := Encode(e, form)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Decode(text); err != nil || !cmp.Equal(got.Evidence, e) {
				t.Errorf("%q, %s: %v", e.TEE, form, err)
			}
		}
	}
	e.TEE = "tdx"
	values, err := split(e)
	if err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string]string{"tee": "\xff", "claims": `,"shared":{"size":1,"index":0,"path":[]}`} {
		spoiled := slices.Clone(values)
		for i, p := range parts {
			if p.name == name {
				spoiled[i] = append(bytes.Clone(values[i]), more...)
			}
		}
		if c, err := join(CMW, spoiled); err == nil {
			t.Errorf("%s with %q is accepted: %+v", name, more, c.Evidence)
		}
	}
}

// TestCMW: each record is a type, a value and the indicator of evidence.
func TestCMW(t *testing.T) {
	e := evidence(t, bootLog(false), osLog())
	text, err := Encode(e, CMW)
	if err != nil {
		t.Fatal(err)
	}
	var collection map[string]any
	if err := json.Unmarshal(text, &collection); err != nil || len(collection) != 9 {
		t.Fatalf("%d members, %v", len(collection), err)
	}
	for name, v := range collection {
		record, ok := v.([]any)
		if name == "__cmwc_t" {
			if !strings.HasPrefix(v.(string), "tag:") {
				t.Errorf("type %v", v)
			}
			continue
		}
		if !ok || len(record) != 3 || !strings.Contains(record[0].(string), "/") || record[2] != 4.0 {
			t.Errorf("%s: %v", name, v)
		}
	}
	// The beginning of the CBOR form: a map of nine members, "tee" first.
	binary, err := Encode(e, CMWCBOR)
	if want := "a963746565836a746578742f706c61696e437464780465" + hex.EncodeToString([]byte("quote")); err != nil || !strings.HasPrefix(hex.EncodeToString(binary), want) {
		t.Errorf("%x, %v", binary[:40], err)
	}
}
