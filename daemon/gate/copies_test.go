package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two files that were copied up can have the same size and the same times, for a
// container may set one and make the other within a tick of the clock: who of
// them is executed, the origin says, not the name.
func TestCopiesAreToldApart(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := layers{upper: filepath.Join(dir, "upper"), lower: []string{filepath.Join(dir, "lower")}}
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
	identifyPath := func(path string) fileID {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		id, err := identify(fd)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	when := time.Unix(1e9, 0)
	for until := time.Now().Add(20 * time.Second); ; {
		err := errors.Join(os.Chmod(a, 0o755), os.Chmod(b, 0o755), os.Chtimes(a, when, when), os.Chtimes(b, when, when))
		if err != nil {
			t.Fatal(err)
		}
		if identifyPath(a).sameTimes(identifyPath(b)) {
			break
		}
		if time.Now().After(until) {
			t.Skip("left out: this kernel's clock tells any two changes apart")
		}
	}
	for _, path := range []string{a, b} {
		id := identifyPath(path)
		for _, name := range []string{a, b} {
			fd, _, err := l.locate("/"+filepath.Base(name), id, func(int) string { return "" })
			if err == nil {
				unix.Close(fd)
			}
			if fits := err == nil; fits != (path == name) {
				t.Errorf("the file at %s is taken for %s: %v", name, path, fits)
			}
		}
	}
}
