package confirmed

import (
	"fmt"
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
	// The start is judged, whether a line can hold its classes or not.
	if err := a.Confirm("large", "1/0", strings.Repeat("x", maxPower)); err != nil {
		t.Error(err)
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
	f.WriteString("earlier 1/0 5 judged .\nlate 1/0 5 judged .\nlate 1/0 power 0 W10 .\n")
	for owner, word := range map[string]string{"bad": "!", "null": "bnVsbA", "empty": ""} {
		fmt.Fprintf(f, "%s 1/0 power 0 %s .\n%s 1/0 5 judged .\n", owner, word, owner)
	}
	f.WriteString("claimed 1/0 power 0 W10 .\nclaimed 1/0 5 unseen .\ncut 1/0 power 0 WyJ4Il0\ncut 1/0 5 judged .\n")
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
		"large": {judged: true}, "late": {judged: true}, "bad": {judged: true}, "null": {judged: true},
		"empty": {judged: true}, "cut": {judged: true}, "unseen": {}, "claimed": {}, "nobody": {},
	} {
		classes, known := b.Power(owner, "1/0")
		if known != want.known || !slices.Equal(classes, want.classes) || b.IsJudged(owner, "1/0") != want.judged {
			t.Errorf("%s: %q %v, judged %v", owner, classes, known, b.IsJudged(owner, "1/0"))
		}
	}
}

// A daemon that knows no line of power reads who was judged all the same: it is what
// replaces this one if an administrator takes an upgrade back.
func TestPowerIsALineOfItsOwn(t *testing.T) {
	k, s := key{"a", "1/0"}, start{inode: 5, judged: true, power: "WyJ4Il0"}
	lines := slices.Collect(strings.Lines(s.lines(k)))
	if len(lines) != 2 || lines[1] != "a 1/0 5 judged .\n" {
		t.Fatalf("%q", lines)
	}
	if _, _, ok := parse(strings.TrimSuffix(lines[0], "\n")); ok {
		t.Errorf("%q is a line of the old form", lines[0])
	}
}

func FuzzParsePower(f *testing.F) {
	f.Add("a 1.2.3/0 power 0 WyJ4Il0 .")
	f.Fuzz(func(t *testing.T, line string) {
		k, word, ok := parsePower(line)
		if !ok {
			return
		}
		first, _, _ := strings.Cut(start{judged: true, power: word}.lines(k), "\n")
		if first != line {
			t.Errorf("%q, written %q", line, first)
		}
	})
}
