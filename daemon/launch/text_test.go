package launch

import (
	"encoding/json"
	"testing"
)

func TestTextKeepsEveryByte(t *testing.T) {
	seen := map[string]string{}
	for _, literal := range []string{
		`"a"`, "\"\xff\"", "\"\xfe\"", `"�"`, `"\ufffd"`, `"\ud800"`, `"\udfff"`, `"😀"`, `"😀"`, `"\ud83dx"`,
		`"\u00ff"`, `"\n\t\"\\\/\b\f\r"`, `"<&>"`, `"` + " " + `"`, `""`,
	} {
		var v Text
		if err := json.Unmarshal([]byte(literal), &v); err != nil {
			t.Fatalf("%s: %v", literal, err)
		}
		form, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Text
		if err := json.Unmarshal(form, &back); err != nil || back != v {
			t.Errorf("%q came back from %s as %q, %v", v, form, back, err)
		}
		if old, ok := seen[string(form)]; ok && old != string(v) {
			t.Errorf("%q and %q have one form", old, v)
		}
		seen[string(form)] = string(v)
	}
	var v Text
	if json.Unmarshal([]byte("\"\xff\""), &v); v != "\xff" {
		t.Errorf("a byte that is no UTF-8 became %q", v)
	}
	if json.Unmarshal([]byte(`"\ud83d\ude00"`), &v); v != "😀" {
		t.Errorf("a surrogate pair became %q", v)
	}
	for _, bad := range []string{`1`, `[]`, `{"b64":"?"}`, `{"b64":1}`} {
		if err := json.Unmarshal([]byte(bad), &v); err == nil {
			t.Errorf("%s was read as a text", bad)
		}
	}
}
