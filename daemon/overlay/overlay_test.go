package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A file that isn't where its name says is in no layer that could be leased,
// however similar another file looks.
func TestLocate(t *testing.T) {
	dir := t.TempDir()
	lower, upper := filepath.Join(dir, "lower"), filepath.Join(dir, "upper")
	l := Layers{upper: upper, lower: []string{lower}}
	for _, d := range []string{lower, upper} {
		if err := errors.Join(os.Mkdir(d, 0o755), os.WriteFile(filepath.Join(d, "file"), []byte("same"), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	locate := func(id File) (int, string, error) {
		return l.Locate("/file", id, func(fd int) string {
			asked++
			found, err := Identify(fd)
			if err != nil || found != id {
				t.Errorf("asked of %v, not of %v: %v", found, id, err)
			}
			return "sha256:aa"
		})
	}
	id := func(path string) File {
		fd, found, err := openBelow(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		return found
	}
	if fd, verity, err := locate(id("lower/file")); fd != -1 || verity == "" || err != nil {
		t.Errorf("of the lower layer: %d %v", fd, err)
	}
	if fd, verity, err := locate(id("upper/file")); fd < 0 || verity == "" || err != nil {
		t.Errorf("of the upper layer: %d %v", fd, err)
	} else {
		unix.Close(fd)
	}
	other := id("upper/file")
	other.Ctime.Nsec++
	if fd, verity, err := locate(other); verity != "" || !errors.Is(err, ErrUnlocated) {
		t.Errorf("changed since: %d %v", fd, err)
	}
	other = id("upper/file")
	other.Inode++ // not a copy either
	if fd, verity, err := locate(other); verity != "" || !errors.Is(err, ErrUnlocated) {
		t.Errorf("another file: %d %v", fd, err)
	}
	other = id("lower/file")
	other.Inode += 1 << 40
	if fd, verity, err := locate(other); verity != "" || !errors.Is(err, ErrUnlocated) {
		t.Errorf("another lower file: %d %v", fd, err)
	}
	if asked != 2 {
		t.Errorf("asked for fs-verity's digest %d times", asked)
	}
}

// The container can rearrange a layer's directories: no path leads out of the
// layer.
func TestOpenBelow(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "layer/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"layer/a/file", "secret"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"layer/link": "a", "layer/a/link": "file", "layer/out": "../"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	layer := filepath.Join(dir, "layer")
	for _, test := range []struct {
		dir, name string
		want      error
	}{
		{layer, "/a/file", nil},
		{layer, "a/file", nil},
		{layer, "/link/file", unix.ENOTDIR},
		{layer, "/a/link", errNoFile},
		{layer, "/out/secret", unix.ENOTDIR},
		{layer, "/../secret", unix.ENOENT},
		{layer, "/a/none", unix.ENOENT},
		{"/", "/proc/version", unix.EXDEV},
	} {
		fd, _, err := openBelow(test.dir, test.name)
		if err == nil {
			unix.Close(fd)
		}
		if !errors.Is(err, test.want) {
			t.Errorf("%s below %s: %v, not %v", test.name, test.dir, err, test.want)
		}
	}
}

// A pipe in the place of a file delays nothing.
func TestPipeBelow(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "program"), 0o644); err != nil {
		t.Fatal(err)
	}
	opened, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(opened)
	if _, err := unix.InotifyAddWatch(opened, filepath.Join(dir, "program"), unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, _, err := openBelow(dir, "program"); ended <- err }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a pipe counts as a file")
		}
	case <-time.After(time.Minute):
		t.Error("it waits for a writer of the pipe")
		if f, err := os.OpenFile(filepath.Join(dir, "program"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
		<-ended
	}
	if n, err := unix.Read(opened, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("it was opened: %d bytes, %v", n, err)
	}
}

// Two files that were copied up can have the same size and the same times,
// because a container may change both within a tick of the clock. The origin,
// not the name, shows which of them is executed.
func TestCopiesAreToldApart(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := Layers{upper: filepath.Join(dir, "upper"), lower: []string{filepath.Join(dir, "lower")}}
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(l.lower[0], name), []byte("program "+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s/work", l.lower[0], l.upper, dir)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skip("left out: no overlay can be mounted here:", err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	a, b := filepath.Join(merged, "a"), filepath.Join(merged, "b")
	identifyPath := func(path string) File {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		id, err := Identify(fd)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if err := errors.Join(os.Chmod(a, 0o700), os.Chmod(b, 0o700)); err != nil { // both are copied up
		t.Fatal(err)
	}
	for _, path := range []string{a, b} {
		for _, name := range []string{a, b} {
			id := identifyPath(name) // the times are equal, the inodes differ
			id.Inode = identifyPath(path).Inode
			fd, _, err := l.Locate("/"+filepath.Base(name), id, func(int) string { return "" })
			if err == nil {
				unix.Close(fd)
			}
			if fits := err == nil; fits != (path == name) {
				t.Errorf("the file at %s is accepted as %s: %v", name, path, fits)
			}
		}
	}
}

// A lease that somebody has on a file delays nothing: the file can't be opened then.
func TestLeaseOnFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "program"), []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("left out: no leases here:", err)
	}
	if fd, _, err := openBelow(dir, "program"); err != unix.EAGAIN {
		unix.Close(fd)
		t.Errorf("under a lease: %v", err)
	}
}
