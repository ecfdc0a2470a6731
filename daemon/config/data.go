package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw/verify/tables"
)

// maxData bounds the list of directories that are declared as data.
const maxData = 64

// notData are directories in which programs of the host look for code or orders.
var notData = []string{"/", "/etc", "/usr", "/run", "/var", "/dev", "/proc", "/sys", "/boot", "/bin", "/sbin", "/lib", "/lib64", "/root", "/home", "/tmp", "/opt"}

// engineStorage are the usual directories of engines: images, volumes, bundles, state.
var engineStorage = []string{
	"/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/kubelet",
	"/run/docker", "/run/containerd", "/run/containers", "/run/runc", "/run/crun", "/run/libpod", "/run/crio",
}

// checkData checks the directories that are declared as data. One that isn't there yet
// is taken.
func (l Launch) checkData(say sayer) {
	for _, list := range []struct {
		key  string
		dirs []string
		read bool
	}{{"data", l.Data, false}, {"data_read", l.DataRead, true}} {
		if len(list.dirs) > maxData {
			say(tables.Path("launch", list.key), "launch.%s has %d directories: it must have at most %d", list.key, len(list.dirs), maxData)
			continue
		}
		for i, dir := range list.dirs {
			if err := checkDataDir(dir, list.read); err != nil {
				say(tables.Path("launch", list.key, i), "launch.%s: %q %v", list.key, tables.Clip(dir), err)
			}
		}
	}
}

// checkDataDir checks one of them. What may only be read may lie in /usr or /etc, but
// may not be such a directory as a whole.
func checkDataDir(dir string, read bool) error {
	below := func(of string) bool { return dir == of || strings.HasPrefix(dir, of+"/") }
	switch {
	case !path.IsAbs(dir) || path.Clean(dir) != dir:
		return errors.New("must be an absolute path without . or .. and no / at its end")
	case slices.Contains(notData, dir):
		return errors.New("is a part of the system: it must be a directory that holds data alone")
	case slices.ContainsFunc([]string{"/run", "/dev", "/proc", "/sys"}, below):
		return errors.New("must not lie below /run, /dev, /proc or /sys: sockets, devices and the kernel's files are no data")
	case !read && slices.ContainsFunc([]string{"/etc", "/usr", "/boot", "/bin", "/sbin", "/lib", "/lib64"}, below):
		return errors.New("must not lie in a directory in which programs of the host look for code or orders")
	}
	for _, storage := range engineStorage {
		if below(storage) || strings.HasPrefix(storage, dir+"/") {
			return fmt.Errorf("must not hold an engine's storage, or lie in it: %s", storage)
		}
	}
	return checkDataFile(dir)
}

// checkDataFile looks at what lies at the path.
func checkDataFile(dir string) error {
	at := "/"
	for part := range strings.SplitSeq(dir[1:], "/") {
		at = path.Join(at, part)
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("must be a directory, and no symbolic link: %s", at)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && (st.Uid != 0 || st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0) {
			return fmt.Errorf("must be root's alone: uid %d owns %s, mode %#o", st.Uid, at, st.Mode&0o7777)
		}
	}
	if info, err := os.Lstat(dir); err != nil || info.Mode().Perm()&0o022 != 0 {
		return errors.New("must be writable for root alone")
	}
	var kind unix.Statfs_t
	if err := unix.Statfs(dir, &kind); err != nil {
		return err
	}
	if kind.Type == unix.TMPFS_MAGIC || kind.Type == unix.RAMFS_MAGIC {
		return errors.New("must not be on a tmpfs: programs of the host leave sockets there")
	}
	return nil
}
