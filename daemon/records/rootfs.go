package records

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/procfs"
)

// maxExecutable is the largest file whose digest is taken.
const maxExecutable = 256 << 20

// errCovered says that a mount lies over a path: the container does not see what the
// root file system has there.
var errCovered = errors.New("covered by a mount")

// rootfs is a container's root file system as the host sees it.
type rootfs struct {
	fd      int
	mounts  map[string]bool // destinations, symlinks resolved
	unknown bool            // one of them may go anywhere
	user    *identity       // who searches it; nil: somebody who may search all

	hashing *hashing.Turns
	payer   string // of hashing
}

// emptyWhenMounted are file systems in which nobody has put a symlink when they are
// mounted.
var emptyWhenMounted = []string{"tmpfs", "ramfs", "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"}

func openRoot(dir string, mounts []launch.Mount) (*rootfs, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	root := &rootfs{fd: fd}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || procfs.Remote(int64(fs.Type)) {
		root.close()
		return nil, errors.New("the root file system must be a local one")
	}
	resolved, holding := map[string]bool{}, map[string]bool{}
	for _, m := range mounts {
		at, _ := root.resolve(string(m.Destination))
		resolved[at] = true
		holding[at] = holding[at] || !slices.Contains(emptyWhenMounted, m.Type)
	}
	root.mounts = resolved
	// A destination within another mount follows the symlinks that lie there.
	for at := range resolved {
		for end := strings.LastIndexByte(at, '/'); end > 0; end = strings.LastIndexByte(at[:end], '/') {
			root.unknown = root.unknown || holding[at[:end]]
		}
	}
	return root, nil
}

func (root *rootfs) close() { unix.Close(root.fd) }

// resolve follows the symlinks of a path within the root file system, and stops with
// errCovered where a mount lies over it. The path that it returns has no symlinks. With
// an error, the components behind the one that failed are as given.
func (root *rootfs) resolve(name string) (string, error) {
	at, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		if err := root.maySearch(at); err != nil {
			return path.Join(append([]string{at, part}, rest...)...), err
		}
		next := path.Join(at, part)
		if part == ".." {
			at = next
			continue
		}
		if root.mounts[next] || root.unknown {
			return next, errCovered
		}
		fd, st, err := root.stat(next)
		if err != nil {
			return path.Join(append([]string{next}, rest...)...), err
		}
		target := ""
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err = procfs.Readlink(fd)
		}
		unix.Close(fd)
		switch {
		case err != nil:
			return next, err
		case st.Mode&unix.S_IFMT != unix.S_IFLNK:
			at = next
			continue
		case links == 40:
			return next, unix.ELOOP
		}
		links++
		rest = append(strings.Split(target, "/"), rest...)
		if path.IsAbs(target) {
			at = "/"
		}
	}
	return at, nil
}

// maySearch returns an error unless the user may look a name up in a directory.
func (root *rootfs) maySearch(dir string) error {
	if root.user == nil {
		return nil
	}
	fd, st, err := root.stat(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return root.user.maySearch(fd, st)
}

// stat opens a path that has no symlinks, and never leaves the mount of the root.
func (root *rootfs) stat(name string) (int, *unix.Stat_t, error) {
	fd, err := procfs.OpenBelow(root.fd, name)
	if err != nil {
		return -1, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, &st, nil
}

// digestFile returns SHA-384, in hex, of the regular file behind an O_PATH descriptor, in
// the turns of a payer. Only a regular file is opened for reading: opening a device could
// have effects.
func digestFile(ctx context.Context, turns *hashing.Turns, payer string, fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxExecutable {
		return "", fmt.Errorf("must be a regular file of at most %d bytes", maxExecutable)
	}
	f, err := openRegular(fd)
	if err != nil {
		return "", err
	}
	defer unix.Close(f)
	digest, err := turns.Sum(ctx, payer, f, maxExecutable)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(digest[:]), nil
}

// openRegular opens the regular file behind an O_PATH descriptor for reading.
// O_NONBLOCK: opening must not wait where the container holds a lease.
func openRegular(fd int) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}
