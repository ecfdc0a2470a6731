package confirmed

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A launch belongs to the first cgroup that comes with it, over restarts of the
// daemon, and to no other; and it counts as judged only where START confirmed it before.
func TestConfirmedStarts(t *testing.T) {
	dir := t.TempDir()
	live := map[string]string{"a": "1/0", "b": "2/0", "c": "3/0"}
	open := func() *Starts {
		t.Helper()
		a, err := Open(dir, func(owner string) string { return live[owner] })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		return a
	}
	const others, unseen, judged = "another's", "unseen", "judged"
	want := func(a *Starts, owner, instance string, inode uint64, want string) {
		t.Helper()
		got := others
		mine, isJudged, err := a.Claim(owner, instance, inode)
		switch {
		case mine && isJudged:
			got = judged
		case mine:
			got = unseen
		case isJudged:
			t.Error("judged, and another's")
		}
		if err != nil || got != want {
			t.Errorf("%s %s as %d: %s %v, want %s", owner, instance, inode, got, err, want)
		}
	}
	a := open()
	if a.IsJudged("a", "1/0") {
		t.Error("judged before START")
	}
	if err := a.Confirm("a", "1/0"); err != nil || !a.IsJudged("a", "1/0") {
		t.Fatal("not confirmed:", err)
	}
	want(a, "a", "1/0", 5, judged)
	want(a, "a", "1/0", 5, judged)
	want(a, "a", "1/0", 6, others) // a start that the gate didn't see
	want(a, "late", "1/0", 5, unseen)
	if err := a.Confirm("late", "1/0"); err != nil || a.IsJudged("late", "1/0") {
		t.Error("confirmed after it was claimed:", err)
	}
	want(a, "late", "1/0", 5, unseen)
	for owner, instance := range map[string]string{"b": "2/0", "c": "3/0"} {
		if err := a.Confirm(owner, instance); err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	if _, _, err := a.Claim("b", "2/0", 7); err == nil {
		t.Error("what can't be stored was claimed")
	}

	live["c"] = "4/0" // launched anew, and that one isn't confirmed
	a = open()
	want(a, "a", "1/0", 6, others)
	want(a, "a", "1/0", 5, judged)
	want(a, "b", "2/0", 8, judged)
	want(a, "c", "3/0", 9, unseen)
	want(a, "c", "4/0", 9, unseen)
	a.Close()

	// A line that was cut off is ignored. A daemon of the first profile judged nothing.
	path := filepath.Join(dir, "gated")
	if err := os.WriteFile(path, []byte("a 1/0 5 judged .\nc 4/0 9 .\nb 2/0 8 judged"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = open()
	want(a, "b", "2/0", 8, unseen)
	want(a, "c", "4/0", 9, unseen)
	want(a, "a", "1/0", 5, judged)

	// The file stays small.
	for i := range 20 * spareLines {
		owner := fmt.Sprint("x", i)
		if err := a.Confirm(owner, "1/0"); err != nil {
			t.Fatal(err)
		}
		a.Retain(map[string]bool{"a": true, owner: true})
	}
	text, err := os.ReadFile(path)
	if n := strings.Count(string(text), "\n"); err != nil || n > 2*spareLines || len(a.byKey) != 2 {
		t.Errorf("%d lines for %d: %v", n, len(a.byKey), err)
	}
	want(a, "a", "1/0", 5, judged)
}

func FuzzParse(f *testing.F) {
	f.Add("a 1.2.3/0 1a judged .")
	f.Add("a 1.2.3/0 1a .")
	f.Fuzz(func(t *testing.T, line string) {
		k, s, ok := parse(line)
		if !ok {
			return
		}
		k2, s2, ok := parse(strings.TrimSuffix(s.lines(k), "\n"))
		if !ok || k2 != k || s2 != s {
			t.Errorf("%q: %+v %+v, read back %+v %+v", line, k, s, k2, s2)
		}
	})
}
