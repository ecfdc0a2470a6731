package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A confirmed launch belongs to the first cgroup that comes with it, over
// restarts of the daemon, and to no other.
func TestConfirmedStarts(t *testing.T) {
	dir := t.TempDir()
	live := map[string]string{"a": "1/0", "b": "2/0", "c": "3/0"}
	open := func() *confirmedStarts {
		t.Helper()
		a, err := openConfirmed(dir, func(owner string) string { return live[owner] })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.close)
		return a
	}
	want := func(a *confirmedStarts, owner, instance string, inode uint64, want bool) {
		t.Helper()
		if ok, err := a.claim(owner, instance, inode); err != nil || ok != want {
			t.Errorf("%s %s as %d: %t %v, want %t", owner, instance, inode, ok, err, want)
		}
	}
	a := open()
	want(a, "a", "1/0", 5, false) // not confirmed
	if err := a.confirm("a", "1/0"); err != nil {
		t.Fatal(err)
	}
	want(a, "a", "1/0", 5, true)
	want(a, "a", "1/0", 5, true)
	want(a, "a", "1/0", 6, false) // a start that the gate didn't see
	for owner, instance := range map[string]string{"b": "2/0", "c": "3/0"} {
		if err := a.confirm(owner, instance); err != nil {
			t.Fatal(err)
		}
	}
	a.close()
	if _, err := a.claim("b", "2/0", 7); err == nil {
		t.Error("what can't be stored was claimed")
	}

	live["c"] = "4/0" // launched anew, and that one isn't confirmed
	a = open()
	want(a, "a", "1/0", 6, false)
	want(a, "a", "1/0", 5, true)
	want(a, "b", "2/0", 8, true)
	want(a, "c", "3/0", 9, false)
	want(a, "c", "4/0", 9, false)
	a.close()

	// A line that was cut off is ignored.
	path := filepath.Join(dir, "gated")
	if err := os.WriteFile(path, []byte("a 1/0 5 .\nb 2/0 8"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = open()
	want(a, "b", "2/0", 8, false)
	want(a, "a", "1/0", 5, true)

	// The file stays small.
	for i := range 20 * spareLines {
		owner := fmt.Sprint("x", i)
		if err := a.confirm(owner, "1/0"); err != nil {
			t.Fatal(err)
		}
		a.retain(map[string]bool{"a": true, owner: true})
	}
	text, err := os.ReadFile(path)
	if n := strings.Count(string(text), "\n"); err != nil || n > 2*spareLines || len(a.byKey) != 2 {
		t.Errorf("%d lines for %d: %v", n, len(a.byKey), err)
	}
	want(a, "a", "1/0", 5, true)
}
