package procfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Other users can rearrange these directories: no path leads out of them.
func TestOpenBelow(t *testing.T) {
	top := t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, "layer/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"layer/a/file", "secret"} {
		if err := os.WriteFile(filepath.Join(top, f), []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"layer/link": "a", "layer/a/link": "file", "layer/out": "../"} {
		if err := os.Symlink(target, filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	layer := filepath.Join(top, "layer")
	for _, test := range []struct {
		dir, name string
		want      error
		mode      uint32
	}{
		{layer, "/a/file", nil, unix.S_IFREG},
		{layer, "a/file", nil, unix.S_IFREG},
		{layer, "/", nil, unix.S_IFDIR},
		{layer, "/a/link", nil, unix.S_IFLNK},
		{layer, "/link/file", unix.ENOTDIR, 0},
		{layer, "/out/secret", unix.ENOTDIR, 0},
		{layer, "/../secret", unix.ENOENT, 0},
		{layer, "/a/none", unix.ENOENT, 0},
		{"/", "/proc/version", unix.EXDEV, 0},
	} {
		dir, err := unix.Open(test.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := OpenBelow(dir, test.name)
		unix.Close(dir)
		if !errors.Is(err, test.want) {
			t.Errorf("%s below %s: %v, not %v", test.name, test.dir, err, test.want)
		}
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != test.mode {
			t.Errorf("%s below %s: mode %#o, %v", test.name, test.dir, st.Mode, err)
		}
		unix.Close(fd)
	}
}

func TestOpenAbsolute(t *testing.T) {
	top := t.TempDir()
	if err := os.Symlink(top, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		top: nil, filepath.Join(top, "link"): nil, filepath.Join(top, "link/link"): unix.ENOTDIR, filepath.Join(top, "none"): unix.ENOENT,
		"/proc/version": nil,
	} {
		fd, err := OpenAbsolute(name)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", name, err, want)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
}

func TestReadlink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("some/where", link); err != nil {
		t.Fatal(err)
	}
	fd, err := OpenAbsolute(link)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if target, err := Readlink(fd); err != nil || target != "some/where" {
		t.Errorf("%q, %v", target, err)
	}
}

// A pidfd and /proc give a pid namespace the same name.
func TestPIDNamespace(t *testing.T) {
	want, err := Stat(unix.AT_FDCWD, "/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	got, err := PIDNamespace(pidfd)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
		t.Skip("left out: Linux before 6.11")
	}
	if err != nil || got != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestRemote(t *testing.T) {
	for fsType, want := range map[int64]bool{unix.FUSE_SUPER_MAGIC: true, unix.NFS_SUPER_MAGIC: true, unix.TMPFS_MAGIC: false, unix.PROC_SUPER_MAGIC: false} {
		if Remote(fsType) != want {
			t.Errorf("%#x: %t", fsType, !want)
		}
	}
}
