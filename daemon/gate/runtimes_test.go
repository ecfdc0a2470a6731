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

// Nobody can lease a runtime, and stop so who executes it: the root of a container can get a
// descriptor of the host's (fcntl(2), F_SETLEASE).
func TestNoLeaseOnRuntime(t *testing.T) {
	runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
	lease := func(f *os.File) error {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		return err
	}
	f, err := os.Open(runtime)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := lease(f); err != nil {
		t.Skip("left out: no leases here:", err)
	}
	// One that is there already ends when it is broken, and then there can be no other.
	r := hold(t, []string{runtime}, Options{Deadline: time.Minute, Decide: func(context.Context, *HeldExec) error { return nil }})
	if err := run(runtime); err == nil {
		t.Log("the lease was broken at once")
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
		t.Fatal(err)
	}
	if err := r.mark(); err != nil {
		t.Fatal(err)
	}
	if err := lease(f); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a lease on a runtime: %v", err)
	}
	if err := run(runtime); err != nil {
		t.Error(err)
	}
}
