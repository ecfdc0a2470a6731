package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// plain is a value as Go's own.
func plain(v *Value) any {
	switch {
	case v.IsNull():
		return nil
	case v.IsList():
		out := []any{}
		for _, i := range v.items {
			out = append(out, plain(i))
		}
		return out
	case v.IsObject():
		out := map[string]any{}
		for name, m := range v.members {
			out[name] = plain(m)
		}
		return out
	}
	return v.text
}

func TestRead(t *testing.T) {
	for text, want := range map[string]any{
		"a: 1\nb: [x, 2.5, true, null, ~]": map[string]any{"a": "1", "b": []any{"x", "2.5", "true", nil, nil}},
		"a: TRUE\nb: yes\nc: '0x1'":        map[string]any{"a": "true", "b": "yes", "c": "0x1"},
		"x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [*x, {c: 4}]}": map[string]any{
			"x": map[string]any{"a": "1", "b": "2"}, "y": map[string]any{"a": "1", "b": "3"}, "z": map[string]any{"a": "1", "b": "2", "c": "4"},
		},
		"---\na: |\n  x\n  y\n": map[string]any{"a": "x\ny\n"},
		"80: x":                 map[string]any{"80": "x"},
	} {
		v, err := Read([]byte(text))
		if err != nil || !reflect.DeepEqual(plain(v), want) {
			t.Errorf("%q: %v, %v", text, plain(v), err)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	bomb := "a0: &a0 [x]\n"
	for i := range 20 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for text, want := range map[string]string{
		"a: 1\na: 2":       `"a" is there twice`,
		"a: 0x10":          "spell differently",
		"a: 010":           "spell differently",
		"a: 1e3":           "spell differently",
		"a: 1_000":         "spell differently",
		"a: .inf":          "spell differently",
		"a: 2001-01-01":    "!!timestamp",
		"a: !!binary aGk=": "!!binary",
		"a: !x y":          "tag !x",
		"? [a]\n: b":       "key must be a string",
		"true: b":          "key must be a string",
		"a: 1\n---\nb: 2":  "2 documents",
		"":                 "0 documents",
		"a: {<<: 1}":       "<< must be",
		bomb:               "at most",
		strings.Repeat("[", 100) + strings.Repeat("]", 100): "at most",
		"a: [":                          "yaml",
		strings.Repeat("#", MaxBytes+1): "bytes",
	} {
		if _, err := Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, and no %q", text, err, want)
		}
	}
}

func TestTaking(t *testing.T) {
	v, err := Read([]byte("a: 1\nb: text\nc: [x, y]\nd: true\ne: {f: g}\n"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := v.Object()
	if err != nil {
		t.Fatal(err)
	}
	a := o.Take("a")
	if s, err := a.Text(); s != "1" || err != nil {
		t.Error(s, err)
	}
	if _, err := a.StringOnly(); err == nil || !strings.HasPrefix(err.Error(), "line 1: ") {
		t.Error("a number was a string", err)
	}
	if s, err := o.Take("b").StringOnly(); s != "text" || err != nil {
		t.Error(s, err)
	}
	if l, err := o.Take("c").Texts(); !reflect.DeepEqual(l, []string{"x", "y"}) || err != nil {
		t.Error(l, err)
	}
	if b, err := o.Take("d").Bool(); !b || err != nil {
		t.Error(b, err)
	}
	if err := o.End(); err == nil || err.Error() != `line 5: the key "e" is not known` {
		t.Error(err)
	}
	e := o.Take("e")
	if _, err := e.Text(); err == nil {
		t.Error("a mapping was a string")
	}
	if _, err := e.List(); err == nil {
		t.Error("a mapping was a list")
	}
	if _, err := e.Bool(); err == nil {
		t.Error("a mapping was a boolean")
	}
	if _, err := a.Object(); err == nil {
		t.Error("a number was a mapping")
	}
	if o.Take("none") != nil || o.End() != nil || len(o.Names()) > 0 {
		t.Error("something is left")
	}
	if l, err := o.Take("none").List(); l != nil || err != nil {
		t.Error(l, err)
	}
	if _, err := o.Take("none").Text(); err == nil {
		t.Error("nothing was a string")
	}
}

// What is read is what yaml.v3 reads, or an error.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"a: 1\nb: [x]\n", "x: &x {a: 1}\ny: {<<: *x}", "- 1\n- two", "a: |\n b\n", "--- a\n--- b"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := Read(text)
		if err != nil {
			return
		}
		var n yaml.Node
		if err := yaml.Unmarshal(text, &n); err != nil {
			t.Fatal(err)
		}
		var of map[string]any
		if err := n.Decode(&of); v.IsObject() && err != nil && !errors.As(err, new(*yaml.TypeError)) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
