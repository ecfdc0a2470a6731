package settings

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "- -",
		`socket = "/a"`:                     "/a -",
		`"socket" = "/a"`:                   "/a -",
		`{"socket": "/a"}`:                  "/a -",
		"policy = \"b\"\nsocket = \"/a b\"": "/a b b",
		`socket = "/a" socket = "/b"`:       "socket",
		"socket = \"/a\"\nsocket = \"/b\"":  "socket",
		`sockets = "/a"`:                    `no key "sockets"`,
		`socket = ""`:                       "not be empty",
		`socket = 5`:                        "text in quotes",
		`socket = ["/a"]`:                   "text in quotes",
		`socket { a = "b" }`:                "text in quotes",
		`socket "x" { a = "b" }`:            `no key "socket x"`,
		strings.Repeat("#", maxText+1):      "at most",
	} {
		socket, policy := "-", "-"
		err := Read(text, map[string]*string{"socket": &socket, "policy": &policy})
		got := socket + " " + policy
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("%.60q: %s, want %s", text, got, want)
		}
	}
}

// A text that was read has these values in every reading, and none is empty.
func FuzzRead(f *testing.F) {
	f.Add(`socket = "/a"`)
	f.Add(`{"socket": ["/a"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var first, second string
		err := Read(text, map[string]*string{"socket": &first})
		again := Read(text, map[string]*string{"socket": &second})
		if (err == nil) != (again == nil) || first != second {
			t.Errorf("%q: %q %v, then %q %v", text, first, err, second, again)
		}
	})
}
