package gate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/daemontest"
)

// A package that replaces a runtime doesn't bypass the gate, and neither does
// one that adds a runtime later.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	link, runtime, late := filepath.Join(dir, "link"), filepath.Join(dir, "d", "runtime"), filepath.Join(dir, "late")
	if err := errors.Join(os.Mkdir(filepath.Dir(runtime), 0o755), os.Symlink("d/runtime", link)); err != nil {
		t.Fatal(err)
	}
	program(t, runtime)
	held := make(chan string, 1)
	r := hold(t, []string{link, late}, Options{Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		held <- h.Path()
		return nil
	}})
	wantHeld := func(path string) {
		t.Helper()
		if err := run(path); err != nil {
			t.Fatal(err)
		}
		select {
		case <-held:
		default:
			t.Errorf("%s was not held", path)
		}
	}
	wantHeld(link)
	old := inode(t, runtime)
	if err := os.Rename(program(t, runtime+".new"), runtime); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, "the new file is marked", func() bool { return r.inode(link) == inode(t, runtime) })
	if old == inode(t, runtime) {
		t.Fatal("the file was not replaced")
	}
	wantHeld(runtime)
	program(t, late)
	daemontest.Eventually(t, "the new runtime is marked", func() bool { return len(r.Marked()) == 2 })
	wantHeld(late)
	os.Remove(late)
	daemontest.Eventually(t, "the removed runtime is not", func() bool { return len(r.Marked()) == 1 })
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func (r *Runtimes) inode(path string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.marked[path]; m != nil {
		return m.ino
	}
	return 0
}
