package containers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/records"
)

// After a reload the survey watches the new records, not the old ones.
func TestWatchFollowsTheStoreInForce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root to read root-owned records")
	}
	store := func() (*records.Store, string) {
		dir := t.TempDir()
		s := records.New(records.Options{Places: []records.Place{{Runtime: "docker", Config: dir + "/{id}/config.json"}}})
		if _, err := s.List(t.Context()); err != nil { // the index has the directory now
			t.Fatal(err)
		}
		return s, dir
	}
	first, _ := store()
	second, dir := store()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := watch{m: newManager(t), stop: func() {}}
	w.follow(ctx, first)
	old := w.changes
	w.follow(ctx, second)
	closed := func(c <-chan struct{}) {
		t.Helper()
		select {
		case _, open := <-c:
			if open {
				t.Error("a signal of a store that is not in force")
			}
		case <-time.After(time.Minute):
			t.Error("the store that was in force is still watched")
		}
	}
	closed(old)
	for changed := false; !changed; { // until the directory is watched
		if err := os.Mkdir(filepath.Join(dir, time.Now().Format("150405.000000000")), 0o755); err != nil {
			t.Fatal(err)
		}
		select {
		case _, changed = <-w.changes:
		case <-time.After(10 * time.Millisecond):
		}
	}
	w.stop()
	for range w.changes {
	}
}
