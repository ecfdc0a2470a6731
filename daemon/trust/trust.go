// Package trust answers: who could have written a file?
//
// A file counts as root's only if root owns every directory down to it, and nobody else
// can write there. Nothing here follows a symlink, waits for a FIFO or reads a file
// without a bound.
package trust

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// ErrUntrusted says that others than the owner could have written a file.
var ErrUntrusted = errors.New("not written by its owner alone")

// trustedDir is a directory reached from / without following a symlink, and the
// user that can write in it.
type trustedDir struct {
	fd    int
	path  string
	owner uint32 // 0, or the only other user that owns a part of the path
	above uint32 // as owner, of the path above the last component
	mode  uint32 // of the last component
	trust Trust

	linkedOnce bool // its files count only if they have one name
}

// Trust says which uids count as root: 0, and Root, which in tests is the
// tester's.
type Trust struct{ Root uint32 }

// open opens a directory. It is root's if root owns every component of its path and
// nobody else may write there (a sticky directory protects what root has in it). From
// the first component that another user owns, the rest is that user's.
func (t Trust) open(dir string) (*trustedDir, error) {
	if !path.IsAbs(dir) {
		return nil, fmt.Errorf("%s: the path must be absolute", dir)
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/", Err: err}
	}
	p := &trustedDir{fd: fd, path: "/", trust: t}
	for name := range strings.SplitSeq(strings.Trim(path.Clean(dir), "/"), "/") {
		if name == "" {
			break
		}
		at := path.Join(p.path, name)
		next, err := unix.Openat(p.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			p.close()
			if errors.Is(err, unix.ENOTDIR) {
				err = fmt.Errorf("%w: must be a directory and no symlink", ErrUntrusted)
			}
			return nil, &os.PathError{Op: "open", Path: at, Err: err}
		}
		unix.Close(p.fd)
		p.fd, p.path = next, at
		var st unix.Stat_t
		if err = unix.Fstat(next, &st); err == nil {
			p.above, p.mode = p.owner, st.Mode
			err = p.enter(&st)
		}
		if err != nil {
			p.close()
			return nil, fmt.Errorf("%s: %w", at, err)
		}
	}
	return p, nil
}

func (p *trustedDir) close() { unix.Close(p.fd) }

// enter takes one component into account.
func (p *trustedDir) enter(st *unix.Stat_t) error {
	if st.Uid != 0 && st.Uid != p.trust.Root && p.owner != st.Uid {
		if p.owner != 0 {
			return fmt.Errorf("%w: uid %d and uid %d own parts of its path", ErrUntrusted, p.owner, st.Uid)
		}
		p.owner = st.Uid
	}
	others := st.Mode & 0o022
	if p.owner != 0 && st.Gid == p.owner {
		others &^= 0o020 // a user's private group
	}
	if others != 0 && (st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&unix.S_ISVTX == 0) {
		return fmt.Errorf("%w: mode %#o lets others write", ErrUntrusted, st.Mode&0o7777)
	}
	return nil
}

// Unchanged reports whether a file that was read and trusted before is still that
// file, as its owner left it. Nobody but root could have put a symlink among
// root's directories meanwhile. A user could among the user's own, so no symlink
// is followed there: what it leads to may hang.
func Unchanged(file string, then Stamp, owner uint32) bool {
	var st unix.Stat_t
	if owner == 0 {
		return unix.Lstat(file, &st) == nil && stamp(&st) == then
	}
	fd, err := procfs.OpenAbsolute(file)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, &st) == nil && stamp(&st) == then
}

// ReadFile reads a small regular file, and returns the uid that owns it and its
// path. A file that others than this owner could have written is an error.
func (t Trust) ReadFile(file string, limit int64) ([]byte, Stamp, uint32, error) {
	dir, err := t.open(path.Dir(file))
	if err != nil {
		return nil, Stamp{}, 0, err
	}
	defer dir.close()
	return dir.read(path.Base(file), limit)
}

// OpenFile opens a regular file that root alone could have written, and does not read it:
// for one that is large.
func (t Trust) OpenFile(file string) (*os.File, error) {
	dir, err := t.open(path.Dir(file))
	if err != nil {
		return nil, err
	}
	defer dir.close()
	f, _, owner, err := dir.file(path.Base(file))
	if err == nil && owner != 0 {
		f.Close()
		err = fmt.Errorf("%s: %w: uid %d owns it, and root must", file, ErrUntrusted, owner)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ReadMapped reads a file of root's, in a directory that may belong to the root of a
// container's user namespace: podman gives it a bundle's directory. It returns that
// user; 0 where the directory is root's. Whoever may act as this user can't make a file
// of root's, but can move those that are there, or remove them. So the file must say
// itself that the user is the container's root, and be under one name.
func (t Trust) ReadMapped(file string, limit int64) (raw []byte, now Stamp, mapped uint32, err error) {
	dir, err := t.open(path.Dir(file))
	if err != nil {
		return nil, Stamp{}, 0, err
	}
	defer dir.close()
	mapped = dir.owner
	if mapped != 0 {
		if dir.above != 0 || dir.mode&0o022 != 0 {
			return nil, Stamp{}, 0, fmt.Errorf("%s: %w: uid %d owns it, and root must own what is above it", dir.path, ErrUntrusted, mapped)
		}
		dir.owner, dir.linkedOnce = 0, true
	}
	raw, now, owner, err := dir.read(path.Base(file), limit)
	if err == nil && owner != 0 {
		err = fmt.Errorf("%s: %w: uid %d owns it, and root must", file, ErrUntrusted, owner)
	}
	return raw, now, mapped, err
}

// Socket returns an error unless file is a Unix socket that root made, in a
// directory where nobody else can put another.
func (t Trust) Socket(file string) error {
	dir, err := t.open(path.Dir(file))
	if err != nil {
		return err
	}
	defer dir.close()
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, path.Base(file), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || dir.owner != 0 || st.Uid != 0 && st.Uid != t.Root {
		return fmt.Errorf("%s: %w: must be a socket that root made", file, ErrUntrusted)
	}
	return nil
}

// Stamp identifies one version of a file.
type Stamp struct {
	device, inode uint64
	size          int64
	changed       int64 // ctime, ns
}

// String is a name of the version.
func (s Stamp) String() string { return fmt.Sprintf("%x.%x.%x", s.device, s.inode, s.changed) }

// stamp identifies the version of a file that was stat(2)ed.
func stamp(st *unix.Stat_t) Stamp {
	return Stamp{device: uint64(st.Dev), inode: st.Ino, size: st.Size, changed: st.Ctim.Nano()}
}

func (p *trustedDir) regular(name string, st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s: %w: must be a regular file", path.Join(p.path, name), ErrUntrusted)
	case p.linkedOnce && st.Nlink != 1:
		return fmt.Errorf("%s: %w: has %d names, must have one", path.Join(p.path, name), ErrUntrusted, st.Nlink)
	}
	return nil
}

// read returns the bytes of a regular file in the directory, at most limit of
// them, and the uid that owns file and path.
func (p *trustedDir) read(name string, limit int64) ([]byte, Stamp, uint32, error) {
	f, now, owner, err := p.file(name)
	if err != nil {
		return nil, Stamp{}, 0, err
	}
	defer f.Close()
	if now.size > limit {
		return nil, now, owner, fmt.Errorf("%s has %d bytes, more than %d", f.Name(), now.size, limit)
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", f.Name(), limit)
	}
	return raw, now, owner, err
}

// file opens a regular file in the directory.
func (p *trustedDir) file(name string) (*os.File, Stamp, uint32, error) {
	at := path.Join(p.path, name)
	// O_NONBLOCK: opening must not wait where a FIFO lies in the place of the file.
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
			err = fmt.Errorf("%w: must be a regular file", ErrUntrusted)
		}
		return nil, Stamp{}, 0, &os.PathError{Op: "open", Path: at, Err: err}
	}
	f := os.NewFile(uintptr(fd), at)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err != nil {
		err = &os.PathError{Op: "stat", Path: at, Err: err}
	} else {
		err = p.regular(name, &st)
	}
	file := *p // the file's owner counts for this file alone
	if err == nil {
		if err = file.enter(&st); err != nil {
			err = fmt.Errorf("%s: %w", at, err)
		}
	}
	if err != nil {
		f.Close()
		return nil, Stamp{}, 0, err
	}
	return f, stamp(&st), file.owner, nil
}
