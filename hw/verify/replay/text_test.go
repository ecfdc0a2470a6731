package replay

import (
	"strings"
	"testing"
)

func TestShortID(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for from, want := range map[string]string{
		id: "0123456789ab", "user@1000/" + id: "user@1000/0123456789ab", "a.scope": "a.scope", "x/y/" + id: "x/y/0123456789ab",
		"": "", strings.Repeat("n", 90): strings.Repeat("n", 80) + "…",
	} {
		if got := ShortID(from); got != want {
			t.Errorf("%q: %q, not %q", from, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for from, want := range map[string]string{"é x": "é x", "\x1b[2J\n": "\ufffd[2J\ufffd", "\u202e": "\ufffd", strings.Repeat("n", 401): strings.Repeat("n", 400) + "…"} {
		if got := Printable(from); got != want {
			t.Errorf("%q: %q, not %q", from, got, want)
		}
	}
}
