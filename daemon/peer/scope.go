package peer

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// roots holds a descriptor of the root directory of each cgroup hierarchy. It opens
// a directory when it is first needed, because some are mounted late.
type roots struct {
	dir string // /sys/fs/cgroup, except in tests
	v2  bool   // dir is itself the unified hierarchy

	mu   sync.Mutex
	open map[string]int // by controllers
}

// newRoots finds out what is mounted at dir: "v2" (cgroup v2 only), "v1" (a directory
// of v1 hierarchies) or "hybrid" (both).
func newRoots(dir string) (*roots, string, error) {
	magic, err := fsMagic(dir)
	if err != nil {
		return nil, "", fmt.Errorf("cgroup root: %w; a cgroup file system must be mounted there", err)
	}
	r := &roots{dir: dir, v2: magic == unix.CGROUP2_SUPER_MAGIC, open: map[string]int{}}
	if r.v2 {
		return r, "v2", nil
	}
	if magic, err := fsMagic(filepath.Join(dir, "unified")); err == nil && magic == unix.CGROUP2_SUPER_MAGIC {
		return r, "hybrid", nil
	}
	return r, "v1", nil
}

func fsMagic(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Type), nil
}

// root returns the descriptor of the hierarchy's root directory. The caller must not
// close it.
func (r *roots) root(h hierarchy) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fd, ok := r.open[h.controllers]; ok {
		return fd, nil
	}
	path := r.dir
	if name, ok := strings.CutPrefix(h.controllers, "name="); ok {
		path = filepath.Join(path, name)
	} else if h.controllers != "" {
		// The directory's name may list joined controllers in another order, but
		// each controller has a link to it.
		first, _, _ := strings.Cut(h.controllers, ",")
		path = filepath.Join(path, first)
	} else if !r.v2 {
		path = filepath.Join(path, "unified")
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cgroup hierarchy %s: %w", h, &fs.PathError{Op: "open", Path: path, Err: err})
	}
	r.open[h.controllers] = fd
	return fd, nil
}

func (r *roots) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fd := range r.open {
		unix.Close(fd)
	}
	clear(r.open)
}

// owner returns the first owner other than root of the directories down to a cgroup.
func (r *roots) owner(h hierarchy, path string) (uint32, error) {
	root, err := r.root(h)
	if err != nil {
		return 0, err
	}
	s, err := walk(root, path)
	return s.owner, err
}

// scope is a cgroup directory.
type scope struct {
	inode uint64
	owner uint32 // of the first directory from the root down that root does not own
	above uint32 // the same of the directories above this one
}

// chargedTo returns the owner who can move processes to a container's cgroup. In the unified
// hierarchy that takes the right to write above it too (cgroups(7), delegation containment).
// So its own directory says nothing there, and must not: a container that may write to it
// could give it to anybody, and had another name and another share each time.
func (s scope) chargedTo(unified bool) uint32 {
	if unified {
		return s.above
	}
	return s.owner
}

// walk goes from a hierarchy's root down to a cgroup, directory by directory. It
// follows no link and crosses no mount, so it finds the cgroup of the kernel's path.
func walk(root int, path string) (scope, error) {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return scope{}, fmt.Errorf("stat the root of a cgroup hierarchy: %w", err)
	}
	dev, s := st.Dev, scope{st.Ino, st.Uid, 0}
	if path == "/" {
		return s, nil
	}
	at, rest := root, path[1:]
	defer func() { closeBut(at, root) }()
	for {
		name, below, more := strings.Cut(rest, "/")
		if !more {
			if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return scope{}, fmt.Errorf("stat %q of cgroup %q: %w", name, path, err)
			}
		} else {
			next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return scope{}, fmt.Errorf("open %q of cgroup %q: %w", name, path, err)
			}
			closeBut(at, root)
			at, rest = next, below
			if err := unix.Fstat(at, &st); err != nil {
				return scope{}, fmt.Errorf("stat %q of cgroup %q: %w", name, path, err)
			}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Dev != dev {
			return scope{}, fmt.Errorf("%q of cgroup %q must be a directory of its hierarchy", name, path)
		}
		s.inode, s.above = st.Ino, s.owner
		if s.owner == 0 {
			s.owner = st.Uid
		}
		if !more {
			return s, nil
		}
	}
}

func closeBut(fd, keep int) {
	if fd != keep {
		unix.Close(fd)
	}
}

// errSwapped says that another cgroup has the path now.
var errSwapped = errors.New("another cgroup has the path now")

// same returns nil if the path is still that of the cgroup with this inode.
func same(root int, path string, inode uint64) error {
	var st unix.Stat_t
	if err := unix.Fstatat(root, path[1:], &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat cgroup %q: %w", path, err)
	}
	if st.Ino != inode {
		return fmt.Errorf("cgroup %q: %w", path, errSwapped)
	}
	return nil
}
