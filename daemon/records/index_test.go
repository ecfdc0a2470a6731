package records

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A container is found as soon as its bundle is complete, and no longer after
// the bundle is removed.
func TestDeclaredFollowsChanges(t *testing.T) {
	x := newTree(t)
	for n := range 20 {
		path := "/default/c"
		if _, ok, err := x.declared(path); ok || err != nil {
			t.Fatal(n, ok, err)
		}
		x.bundle("default", "c", path, set("process.args", []any{"/bin/sleep", strings.Repeat("x", n+1)}))
		r, ok, err := x.declared(path)
		if !ok || err != nil || len(r.Launch.Asked.Arguments[1]) != n+1 {
			t.Fatal(n, ok, err, r.Launch.Asked.Arguments)
		}
		if err := os.RemoveAll(filepath.Join(x.Dir, "task/default/c")); err != nil {
			t.Fatal(err)
		}
	}
	x.bundle("default", "late", "/a")
	time.Sleep(2 * listingDelay)
	x.declared("/a")
	x.bundle("default", "late", "/b") // written again in the same directory
	if _, ok, _ := x.declared("/a"); ok {
		t.Error("a record that was written again still declares its old path")
	}
}

// The clock for directory times is coarse: a bundle may appear without a change
// of its directory's time.
func TestDeclaredWithinOneTick(t *testing.T) {
	x := newTree(t)
	dir := x.Mkdir("task/default")
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		t.Fatal(err)
	}
	x.declared("/default/c")
	x.bundle("default", "c", "/default/c")
	if err := os.Chtimes(dir, now, now); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := x.declared("/default/c"); !ok || err != nil {
		t.Error(ok, err)
	}
}

func TestTooManyContainers(t *testing.T) {
	x := newTree(t)
	dir := x.Mkdir("task/default")
	for n := range maxEntries + 1 {
		if err := os.Mkdir(filepath.Join(dir, id(n)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := x.declared("/x"); err == nil {
		t.Error("no bound")
	}
}
