package launch

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// hostTree is the file tree of the host's mount namespace: what engines and
// runtimes mean by a path. Our own may hide some of it (PrivateTmp= and
// PrivateDevices= in cimad's unit).
type hostTree struct {
	root  string // Options.HostRoot, "" for our own /
	trust Trust
}

// spot is what a path leads to, as the kernel would follow it below the root.
type spot struct {
	fd    int    // O_PATH, to be closed
	path  string // without symlinks; where the way broke off, the rest as given
	chain []step // from the root to the file itself

	looked      []string // the directories by whose entries it was found
	replaceable bool     // somebody else than root can make it lead elsewhere
}

// step is one file or directory on the way.
type step struct {
	device, inode, mount uint64
	uid                  uint32
	mode                 uint16
	kind                 int64 // of its file system (statfs(2)), once asked for
}

func (s step) same(o step) bool { return s.device == o.device && s.inode == o.inode }
func (s step) is(kind uint16) bool {
	return s.mode&unix.S_IFMT == kind
}

// Bounds of one walk. The kernel follows 40 links too; without the other,
// links that hold long paths could keep the gate.
const (
	maxLinks = 40
	maxSteps = 4096
)

// Why a path leads nowhere that can be told.
var (
	errMagic  = errors.New("a link of /proc leads each process elsewhere")
	errRemote = errors.New("on a file system that a user or another machine serves")
)

// find follows a path. With an error the spot has the path as far as it is
// known, and nothing to close.
//
// It goes by single steps: an absolute link begins at the root again, and ".."
// where it left off, so that nothing leads out of it. openat2(2) would do the
// same, but RestrictSUIDSGID= in cimad's unit forbids it.
func (h hostTree) find(name string) (spot, error) {
	w := walk{tree: h, rest: strings.Split(name, "/"), spot: spot{fd: -1}}
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
		return w.spot, err
	}
	return w.spot, nil
}

func (s *spot) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	s.fd = -1
}

// walk is a spot on the way.
type walk struct {
	spot
	tree         hostTree
	rest         []string
	links, steps int
}

// begin goes to the root.
func (w *walk) begin() error {
	w.close()
	w.path, w.chain = "/", nil
	fd, err := unix.Open(w.tree.root+"/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: w.tree.root + "/", Err: err}
	}
	w.fd = fd
	root, err := stepOf(fd)
	w.chain = append(w.chain, root)
	return err
}

// next takes one component.
func (w *walk) next() error {
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
	if remote(kind) {
		return errRemote // asking could take for ever, and tells nothing
	}
	fd, err := unix.Openat(w.fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	to, err := stepOf(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	w.looked = append(w.looked, w.path)
	if kind != unix.PROC_SUPER_MAGIC && w.tree.trust.mayReplace(w.chain[len(w.chain)-1], to) {
		w.replaceable = true
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
func (w *walk) follow(fd int) error {
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

// kind is the file system's of the directory that was reached.
func (w *walk) kind() (int64, error) {
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

// mayReplace says that somebody who isn't root can put something else in the
// place of a directory's entry. A sticky directory protects what root has in it.
func (t Trust) mayReplace(dir, entry step) bool {
	roots := func(uid uint32) bool { return uid == 0 || uid == t.Root }
	switch {
	case !roots(dir.uid):
		return true
	case dir.mode&0o022 == 0:
		return false
	}
	return dir.mode&unix.S_ISVTX == 0 || !roots(entry.uid)
}

func stepOf(fd int) (step, error) {
	var st unix.Statx_t
	mask := unix.STATX_BASIC_STATS | unix.STATX_MNT_ID
	// What the kernel knows by itself will do: no server is asked.
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, mask, &st); err != nil {
		return step{}, err
	}
	return step{
		device: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino, mount: st.Mnt_id, uid: st.Uid, mode: st.Mode,
	}, nil
}
