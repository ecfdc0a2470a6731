package confirmed

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Classes outlive a restart, and where nobody kept them, none is not what is said.
func TestPowerOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	live := func(string) string { return "1/0" }
	a, err := Open(dir, live)
	if err != nil {
		t.Fatal(err)
	}
	odd := []string{"descriptor", "mount:/a b . \n"}
	if err := a.Confirm("some", "1/0", odd...); err != nil {
		t.Fatal(err)
	}
	if err := a.Confirm("none", "1/0"); err != nil {
		t.Fatal(err)
	}
	if err := a.Confirm("large", "1/0", strings.Repeat("x", maxPower)); err == nil || a.IsJudged("large", "1/0") {
		t.Error("classes that no line holds were confirmed")
	}
	if _, _, err := a.Claim("unseen", "1/0", 3); err != nil {
		t.Fatal(err)
	}
	a.Close()
	f, err := os.OpenFile(filepath.Join(dir, "gated"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// An earlier daemon's line, and lines that are damaged.
	f.WriteString("earlier 1/0 5 judged .\nbad 1/0 5 judged+! .\nnull 1/0 5 judged+bnVsbA .\nempty 1/0 5 judged+ .\n")
	f.Close()
	b, err := Open(dir, live)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for owner, want := range map[string]struct {
		judged, known bool
		classes       []string
	}{
		"some": {true, true, odd}, "none": {true, true, nil}, "earlier": {judged: true},
		"unseen": {}, "bad": {}, "null": {}, "empty": {}, "nobody": {},
	} {
		classes, known := b.Power(owner, "1/0")
		if known != want.known || !slices.Equal(classes, want.classes) || b.IsJudged(owner, "1/0") != want.judged {
			t.Errorf("%s: %q %v, judged %v", owner, classes, known, b.IsJudged(owner, "1/0"))
		}
	}
}
