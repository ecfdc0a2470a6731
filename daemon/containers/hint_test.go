package containers

import (
	"strings"
	"testing"
)

// Each hint says what to do instead, and that this doesn't end what was logged.
func TestHintFor(t *testing.T) {
	for class, want := range map[string]string{
		"host-write:/run":           "/run/cima:ro", // the directory without :ro
		"special-file:/run":         "/run/cima:ro", // the socket by itself
		"host-read:/run/cima-admin": "/run/cima:ro",
		"host-write:/srv":           "[launch] data",
		"unseen-start":              "after cimad",
		"capability:CAP_SYS_ADMIN":  "without what it does not need",
	} {
		hint := hintFor([]string{class})
		if !strings.Contains(hint, want) || !strings.Contains(hint, "until the next boot") {
			t.Errorf("%s: %s", class, hint)
		}
	}
}
