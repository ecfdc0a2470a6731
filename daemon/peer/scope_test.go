package peer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func openRoot(t testing.TB, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestWalk(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/a/b/c", 0o755); err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, dir)
	for _, path := range []string{"/", "/a", "/a/b", "/a/b/c"} {
		s, err := walk(root, path)
		if err != nil || s.inode != inode(t, dir+path) || s.owner != uint32(os.Getuid()) {
			t.Errorf("%s: %+v, %v", path, s, err)
		}
	}
}

func TestWalkFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/a/b", 0o755), os.Symlink("a", dir+"/link"),
		os.Symlink("b", dir+"/a/link"), os.WriteFile(dir+"/a/file", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, dir)
	for _, path := range []string{"/link", "/link/b", "/a/link", "/a/file", "/a/file/x", "/a/none", "/none/b"} {
		if s, err := walk(root, path); err == nil {
			t.Errorf("%s: %+v, want an error", path, s)
		}
	}
}

func TestWalkCrossesNoMount(t *testing.T) {
	// These mounts always exist; /proc/sys/fs/binfmt_misc or any other would
	// do.
	if s, err := walk(openRoot(t, "/"), "/proc/self"); err == nil {
		t.Errorf("%+v, want an error", s)
	}
	if s, err := walk(openRoot(t, "/"), "/proc"); err == nil {
		t.Errorf("%+v, want an error", s)
	}
}

// The owner is the first uid, from the root down, that is not root.
func TestWalkFindsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		leaveOut(t, "chown needs root")
	}
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(dir+"/a/b/c/d", 0o755), os.Chown(dir+"/a/b", 1000, 7), os.Chown(dir+"/a/b/c", 1001, 7)); err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, dir)
	for path, want := range map[string][2]uint32{
		"/": {0, 0}, "/a": {0, 0}, "/a/b": {1000, 0}, "/a/b/c": {1000, 1000}, "/a/b/c/d": {1000, 1000},
	} {
		if s, err := walk(root, path); err != nil || s.owner != want[0] || s.above != want[1] {
			t.Errorf("%s: %+v, %v, want owners %d", path, s, err, want)
		}
	}
	if err := os.Chown(dir, 1002, 7); err != nil {
		t.Fatal(err)
	}
	if s, err := walk(root, "/a/b"); err != nil || s.owner != 1002 {
		t.Errorf("root of uid 1002: %+v, %v", s, err)
	}
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	root, was := openRoot(t, dir), inode(t, dir+"/a/b")
	if err := same(root, "/a/b", was); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Rename(dir+"/a/b", dir+"/a/old"), os.Mkdir(dir+"/a/b", 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := same(root, "/a/b", was); !errors.Is(err, errSwapped) {
		t.Errorf("another directory: %v", err)
	}
	if err := os.Remove(dir + "/a/b"); err != nil {
		t.Fatal(err)
	}
	if err := same(root, "/a/b", was); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no directory: %v", err)
	}
}

func TestRoots(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(dir+"/cpu,cpuacct", 0o755), os.Symlink("cpu,cpuacct", dir+"/cpu"),
		os.Symlink("cpu,cpuacct", dir+"/cpuacct"), os.Mkdir(dir+"/systemd", 0o755), os.Mkdir(dir+"/unified", 0o755)); err != nil {
		t.Fatal(err)
	}
	r, layout, err := newRoots(dir)
	if err != nil || layout != "v1" {
		t.Fatalf("%s, %v", layout, err)
	}
	defer r.close()
	for controllers, want := range map[string]string{
		"cpu,cpuacct": "cpu,cpuacct", "cpuacct,cpu": "cpu,cpuacct", "name=systemd": "systemd", "": "unified",
	} {
		fd, err := r.root(hierarchy{controllers: controllers})
		if err != nil {
			t.Errorf("%s: %v", controllers, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Ino != inode(t, filepath.Join(dir, want)) {
			t.Errorf("%s: inode %d, %v", controllers, st.Ino, err)
		}
		if again, err := r.root(hierarchy{controllers: controllers}); again != fd || err != nil {
			t.Errorf("%s: opened twice, %v", controllers, err)
		}
	}
	if _, err := r.root(hierarchy{controllers: "memory"}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("memory: %v", err)
	}
	if _, _, err := newRoots(dir + "/none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no root: %v", err)
	}
}

// The layout of this machine's own cgroups.
func TestRootsOfTheKernel(t *testing.T) {
	for dir, want := range map[string]string{"/sys/fs/cgroup/unified": "v2", "/sys/fs/cgroup": ""} {
		magic, err := fsMagic(dir)
		if err != nil {
			continue
		}
		if magic == unix.CGROUP2_SUPER_MAGIC {
			want = "v2"
		} else if magic, err := fsMagic(dir + "/unified"); err == nil && magic == unix.CGROUP2_SUPER_MAGIC {
			want = "hybrid"
		} else {
			want = "v1"
		}
		r, layout, err := newRoots(dir)
		if err != nil || layout != want {
			t.Errorf("%s: %s, %v, want %s", dir, layout, err, want)
			continue
		}
		if layout != "v1" {
			unified := map[string]string{"v2": dir, "hybrid": dir + "/unified"}[layout]
			var st unix.Stat_t
			if fd, err := r.root(hierarchy{}); err != nil || unix.Stat(unified, &st) != nil {
				t.Error(err)
			} else if s, err := walk(fd, "/"); err != nil || s.inode != st.Ino {
				t.Errorf("the unified root: %+v, %v, want inode %d", s, err, st.Ino)
			}
		}
		r.close()
	}
}
