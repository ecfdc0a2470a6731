package records

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A user who puts a FIFO where a rootless engine's bundles would be holds up
// nobody: neither the list of root's records nor a question about a cgroup.
func TestUsersFIFOHoldsNobody(t *testing.T) {
	x := newTree(t)
	home := x.Mkdir("home")
	dir := x.Mkdir("home/.local/share/containers/storage")
	if err := unix.Mkfifo(filepath.Join(dir, "overlay-containers"), 0o666); err != nil {
		t.Fatal(err)
	}
	store := New(Options{Places: DefaultPlaces()[4:], Users: func() map[uint32]string {
		return map[uint32]string{1000: home}
	}})
	done := make(chan error, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	go func() { _, err := store.List(ctx); done <- err }()
	go func() {
		id := strings.Repeat("a", 64)
		_, ok, _ := store.Declared(ctx, "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-"+id+".scope")
		if ok {
			t.Error("a FIFO declared a container")
		}
		done <- nil
	}()
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("held up by a FIFO")
		}
	}
}
