package launchtest

import (
	"os"
	"path/filepath"
	"testing"
)

// Tree is a directory that belongs to root, as far as the tester can be root.
type Tree struct {
	testing.TB
	Dir string
}

// NewTree makes a Tree. Nobody else may write to any directory of its path: those
// that testing makes above may be anybody's.
func NewTree(t testing.TB) *Tree {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &Tree{t, dir}
}

// Mkdir makes a directory, and those above.
func (x *Tree) Mkdir(name string) string {
	x.Helper()
	dir := filepath.Join(x.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		x.Fatal(err)
	}
	return dir
}

// Write writes a file, and makes the directories above.
func (x *Tree) Write(name string, content []byte) string {
	x.Helper()
	x.Mkdir(filepath.Dir(name))
	file := filepath.Join(x.Dir, name)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		x.Fatal(err)
	}
	return file
}

// Symlink makes a symbolic link; name is a whole path.
func (x *Tree) Symlink(target, name string) {
	x.Helper()
	if err := os.Symlink(target, name); err != nil {
		x.Fatal(err)
	}
}

// Host makes the file tree of a host below the Tree.
func (x *Tree) Host() string {
	x.Helper()
	for _, dir := range []string{
		"/etc/ssh", "/run/cima", "/run/cima-admin", "/sys/fs/cgroup", "/proc/sys/kernel", "/usr/bin", "/srv/data", "/tmp", "/dev",
		"/var/lib/containers/storage/x", "/var/lib/docker/containers/x", "/var/lib/docker/volumes/v/_data",
	} {
		x.Mkdir("host" + dir)
	}
	root := filepath.Join(x.Dir, "host")
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		x.Fatal(err)
	}
	x.Write("host/run/docker.sock", nil)
	x.Symlink("/run", filepath.Join(root, "var/run"))
	x.Symlink("usr/bin", filepath.Join(root, "bin"))
	return root
}

// SkipUnavailable skips a test that needs what this machine lacks. With CI=true the
// test fails, because there nothing may be lacking.
func SkipUnavailable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not available with CI=true: %s", reason)
	}
	t.Skipf("left out: %s", reason)
}
