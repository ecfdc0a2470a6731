package gate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A layer's directories are the container's to rearrange: nothing leads out.
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

// A pipe in the place of a file holds up nobody.
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
	case <-time.After(10 * time.Second):
		t.Error("it waits for who writes the pipe")
		if f, err := os.OpenFile(filepath.Join(dir, "program"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
		<-ended
	}
	if n, err := unix.Read(opened, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("it was opened: %d bytes, %v", n, err)
	}
}
