package page

import (
	"encoding/json/jsontext"
	"strings"
	"testing"
)

// TestGist: an event's line has what the event says, bounded however large the event is.
func TestGist(t *testing.T) {
	many := make([]any, 100_000)
	for i := range many {
		many[i] = "x"
	}
	deep := any("inside")
	for range 1000 {
		deep = []any{deep}
	}
	hex := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		measured any
		want     string
	}{
		{map[string]any{"launch": map[string]any{"asked": map[string]any{"arguments": []any{"/bin/sh", "-c", "a b"}, "mounts": []any{}}, "image_config": "sha256:" + hex, "cgroup_owner": 0.0}},
			`asked arguments /bin/sh -c "a b"; cgroup owner 0; image config sha256:0123456789ab…`},
		{map[string]any{"launch": map[string]any{"a": map[string]any{"b": true, "c": nil}}}, "a b true, c null"},
		{map[string]any{"other": "x"}, "other x"},
		{hex, "0123456789ab…"},
		{"", `""`},
		{nil, "null"},
		{jsontext.Value(`{"launch":{"n":12,"path":"/bin/x"}}`), "n 12; path /bin/x"},
		{map[string]any{"launch": map[string]any{"n": 1e6, "o": 1048576.0}}, "n 1000000; o 1048576"},
		{deep, "inside"},
		{"a\x1b[2Jb", "a\ufffd[2Jb"},
	} {
		if got := gist("launch", c.measured); got != c.want {
			t.Errorf("%.80v: %q, must be %q", c.measured, got, c.want)
		}
	}
	for name, v := range map[string]any{"a list": many, "a text": strings.Repeat("x", 1<<20), "an object": map[string]any{"launch": map[string]any{strings.Repeat("n", 1<<20): many}}} {
		if got := gist("launch", v); len(got) > maxGist+len("…") {
			t.Errorf("%s gives %d bytes", name, len(got))
		}
	}
}

// TestLines: a link's detail has two lines at most, none longer than the picture is wide.
func TestLines(t *testing.T) {
	for detail, want := range map[string][2]string{
		"short":                              {"short"},
		strings.Repeat("word ", 12) + "end":  {strings.Repeat("word ", 8) + "word", "word word word end"},
		strings.Repeat("x", 100):             {strings.Repeat("x", 44) + "…"},
		"a " + strings.Repeat("x", 60):       {"a", strings.Repeat("x", 44) + "…"},
		strings.Repeat("x", 44) + " behind":  {strings.Repeat("x", 44), "behind"},
		strings.Repeat("y", 44):              {strings.Repeat("y", 44)},
		strings.Repeat("ä", 22) + " äää äää": {strings.Repeat("ä", 22), "äää äää"},
	} {
		if got := (link{Detail: detail}).Lines(); got != want {
			t.Errorf("%q: %q, must be %q", detail, got, want)
		}
	}
}
