package power

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Host is the file tree of the host's mount namespace: what engines and runtimes
// mean by a path. The daemon's own may hide some of it (PrivateTmp= and
// PrivateDevices= in cimad's unit).
type Host struct {
	Root    string // where the tree is seen, as /proc/1/root; "" for the daemon's own /
	RootUID uint32 // counts as root besides 0: in tests the tester's
}

// resolved is what a path leads to, as the kernel would follow it below the root of
// the host.
type resolved struct {
	fd    int         // O_PATH, to be closed
	path  string      // without symlinks; behind the component that could not be resolved, as given
	chain []component // from the root to the file itself
}

// last is the file itself.
func (s *resolved) last() component { return s.chain[len(s.chain)-1] }

// component is one file or directory of a path.
type component struct {
	device, inode, mount uint64
	uid                  uint32
	mode                 uint16
	kind                 int64 // of its file system (statfs(2)), 0 where it was not read yet
}

func (c component) is(kind uint16) bool { return c.mode&unix.S_IFMT == kind }
func (c component) id() procfs.FileID   { return procfs.FileID{Device: c.device, Inode: c.inode} }

// Bounds of resolving one path. The kernel follows 40 links too. Without a bound of
// steps, links that hold long paths could delay the gate.
const (
	maxLinks = 40
	maxSteps = 4096
)

// Why a path can't be resolved.
var (
	errMagic  = errors.New("a link of /proc leads each process elsewhere")
	errRemote = errors.New("on a file system that a user or another machine serves")
)

// Open opens what a path leads to, as O_PATH.
func (h Host) Open(name string) (fd int, err error) {
	at, err := h.find(name)
	return at.fd, err
}

// find follows a path. With an error the result has the path as far as it is known,
// and nothing to close.
//
// It takes one component after the other. An absolute link begins at the root
// again, and so does "..", so that nothing leads out of the root. openat2(2) would do
// the same, but RestrictSUIDSGID= in cimad's unit forbids that call.
func (h Host) find(name string) (resolved, error) {
	w := resolver{tree: h, rest: strings.Split(name, "/"), resolved: resolved{fd: -1}}
	err := w.begin()
	if len(name) >= unix.PathMax {
		err = unix.ENAMETOOLONG
	}
	for err == nil && len(w.rest) > 0 {
		err = w.next()
	}
	if err != nil {
		w.close()
		w.path = path.Join(append([]string{w.path}, w.rest...)...)
		return w.resolved, err
	}
	return w.resolved, nil
}

func (s *resolved) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	s.fd = -1
}

// resolver resolves one path.
type resolver struct {
	resolved
	tree         Host
	rest         []string
	links, steps int
}

// begin goes back to the root.
func (w *resolver) begin() error {
	w.close()
	w.path, w.chain = "/", nil
	fd, err := unix.Open(w.tree.Root+"/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: w.tree.Root + "/", Err: err}
	}
	w.fd = fd
	root, err := componentOf(fd)
	w.chain = append(w.chain, root)
	return err
}

// next resolves one component.
func (w *resolver) next() error {
	part := w.rest[0]
	if w.steps++; w.steps > maxSteps {
		return unix.ENAMETOOLONG
	}
	switch {
	case part == "" || part == ".":
		w.rest = w.rest[1:]
		return nil
	case !w.chain[len(w.chain)-1].is(unix.S_IFDIR):
		return unix.ENOTDIR
	case part == "..":
		// Down again from the root: the directory may have been moved.
		w.rest = append(strings.Split(path.Dir(w.path), "/"), w.rest[1:]...)
		return w.begin()
	}
	kind, err := w.kind()
	if err != nil {
		return err
	}
	if procfs.Remote(kind) {
		return errRemote // a lookup could take for ever
	}
	fd, err := unix.Openat(w.fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	to, err := componentOf(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	if to.is(unix.S_IFLNK) {
		defer unix.Close(fd)
		return w.follow(fd)
	}
	unix.Close(w.fd)
	w.fd, w.path, w.chain, w.rest = fd, path.Join(w.path, part), append(w.chain, to), w.rest[1:]
	return nil
}

// follow puts a symlink's target in the place of its name.
func (w *resolver) follow(fd int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return errMagic
	}
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	target, err := procfs.Readlink(fd)
	if err != nil {
		return err
	}
	w.rest = append(strings.Split(target, "/"), w.rest[1:]...)
	if path.IsAbs(target) {
		return w.begin()
	}
	return nil
}

// kind returns the type of the file system of the directory that was reached.
func (w *resolver) kind() (int64, error) {
	here := &w.chain[len(w.chain)-1]
	if n := len(w.chain); here.kind == 0 && n > 1 && w.chain[n-2].device == here.device {
		here.kind = w.chain[n-2].kind
	}
	if here.kind == 0 {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(w.fd, &fs); err != nil {
			return 0, err
		}
		here.kind = int64(fs.Type)
	}
	return here.kind, nil
}

func componentOf(fd int) (component, error) {
	var st unix.Statx_t
	mask := unix.STATX_BASIC_STATS | unix.STATX_MNT_ID
	// AT_STATX_DONT_SYNC: what the kernel has is enough, no server is asked.
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, mask, &st); err != nil {
		return component{}, err
	}
	return component{
		device: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino, mount: st.Mnt_id, uid: st.Uid, mode: st.Mode,
	}, nil
}
