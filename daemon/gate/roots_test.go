package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file system is not marked if a mark would hold others, or not everything.
func TestUnmarkable(t *testing.T) {
	dir := mountedOverlay(t)
	r, s := watch(t)
	for name, path := range map[string]string{"a directory of the host": t.TempDir(), "a directory within": filepath.Join(dir, "d")} {
		os.MkdirAll(path, 0o755)
		if _, err := r.Add(path); !errors.Is(err, ErrUnmarkable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	second := t.TempDir()
	if err := unix.Mount(dir, second, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(dir); !errors.Is(err, ErrUnmarkable) {
		t.Errorf("mounted twice: %v", err)
	}
	unix.Unmount(second, 0)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/", link); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(link); !errors.Is(err, ErrUnmarkable) {
		t.Errorf("a link to the host's root: %v", err)
	}
	exec.Command("/bin/true").Run()
	if _, n := s.last(); n != 0 {
		t.Error("another process was held")
	}
}

// A mount of an engine can be hidden from our own mount namespace: it is found
// where the host sees it.
func TestMountThatOnlyTheHostSees(t *testing.T) {
	dir := filepath.Dir(mountedOverlay(t)) // skips where marks are not possible
	at := filepath.Join(dir, "elsewhere")
	for _, d := range []string{"low", "up", "work", "at"} {
		if err := os.MkdirAll(filepath.Join(at, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(at, "at")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	host := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-c",
		fmt.Sprintf("cd %s && mount -t overlay -o lowerdir=%[1]s/low,upperdir=%[1]s/up,workdir=%[1]s/work overlay at && echo ready && exec sleep 60", at))
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	defer host.Wait()
	defer cancel()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other namespace shows %q", line)
	}
	add := func(hostRoot string) error {
		r, err := HoldRoots(1<<20, Options{
			Deadline: time.Second, Missed: func(*HeldExec, error) {}, HostRoot: hostRoot,
			Decide: func(context.Context, *HeldExec) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, err = r.Add(merged)
		return err
	}
	if err := add(fmt.Sprintf("/proc/%d/root", host.Process.Pid)); err != nil {
		t.Errorf("as the host sees it: %v", err)
	}
	if err := add(""); !errors.Is(err, ErrUnmarkable) {
		t.Errorf("as we see it: %v", err)
	}
}

// A file system of another kind is not treated as one with known layers.
func TestNoOverlay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root for fanotify")
	}
	r, _ := watch(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skip("left out:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if _, err := r.Add(dir); !errors.Is(err, ErrUnmarkable) || !strings.Contains(err.Error(), "no overlay") {
		t.Errorf("error %v", err)
	}
}
