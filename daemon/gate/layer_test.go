package gate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A device's number can be another file system's next.
func TestKnownDigestsOfAnotherMount(t *testing.T) {
	m := measurer{cache: make(map[fileID]cachedDigest), layers: make(map[uint64]overlayMount)}
	m.store(fileID{dev: 1, ino: 1}, cachedDigest{})
	m.store(fileID{dev: 2, ino: 1}, cachedDigest{})
	m.setLayers(1, overlayMount{})
	if _, ok := m.cache[fileID{dev: 1, ino: 1}]; ok || len(m.cache) != 1 {
		t.Errorf("known still: %v", m.cache)
	}
	for i := range uint64(2 * maxCached) {
		m.store(fileID{dev: 3, ino: i}, cachedDigest{})
	}
	if len(m.cache) > maxCached {
		t.Errorf("%d digests are remembered", len(m.cache))
	}
}

// A file that isn't where its name says is in no layer that could be leased,
// however like it another one looks.
func TestLocate(t *testing.T) {
	dir := t.TempDir()
	lower, upper := filepath.Join(dir, "lower"), filepath.Join(dir, "upper")
	l := layers{upper: upper, lower: []string{lower}}
	for _, d := range []string{lower, upper} {
		if err := errors.Join(os.Mkdir(d, 0o755), os.WriteFile(filepath.Join(d, "file"), []byte("same"), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	locate := func(id fileID) (int, string, error) {
		return l.locate("/file", id, func(fd int) string {
			asked++
			found, err := identify(fd)
			if err != nil || found != id {
				t.Errorf("asked of %v, not of %v: %v", found, id, err)
			}
			return "sha256:aa"
		})
	}
	id := func(path string) fileID {
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
	other.ctime.Nsec++
	if fd, verity, err := locate(other); verity != "" || !errors.Is(err, errUnlocated) {
		t.Errorf("changed since: %d %v", fd, err)
	}
	other = id("upper/file")
	other.ino++ // no copy either
	if fd, verity, err := locate(other); verity != "" || !errors.Is(err, errUnlocated) {
		t.Errorf("another file: %d %v", fd, err)
	}
	other = id("lower/file")
	other.ino += 1 << 40
	if fd, verity, err := locate(other); verity != "" || !errors.Is(err, errUnlocated) {
		t.Errorf("another lower file: %d %v", fd, err)
	}
	if asked != 2 {
		t.Errorf("asked for fs-verity's digest %d times", asked)
	}
}

// A file system of another kind is not taken for one whose layers are known.
func TestNoOverlay(t *testing.T) {
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

// A digest is remembered of a file that has been left alone for a while: a
// second change within one tick of the kernel's clock shows nowhere.
func TestFreshFileIsNotRemembered(t *testing.T) {
	dir := overlay(t)
	r, _ := watch(t, dir)
	file := filepath.Join(dir, "fresh")
	if err := os.WriteFile(file, exiting(t, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	known := func() int {
		r.measurer.mu.Lock()
		defer r.measurer.mu.Unlock()
		return len(r.measurer.cache)
	}
	for want, wait := range []time.Duration{0, minAge + 100*time.Millisecond} {
		time.Sleep(wait)
		if err := run(file); err != nil {
			t.Fatal(err)
		}
		if got := known(); got != want {
			t.Errorf("%v after it was written, %d digests are remembered", wait, got)
		}
	}
}
