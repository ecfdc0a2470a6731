package launch

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

// errUntrusted says that others than the owner could have written a record.
var errUntrusted = errors.New("not written by its owner alone")

// place is a directory reached from / without following a symlink, and who
// can write in it.
type place struct {
	fd    int
	path  string
	owner uint32 // 0, or the only other user that owns a part of the path
	trust owners
}

// owners are the uids that count as root: 0, and in tests the tester.
type owners struct{ root uint32 }

// open walks to a directory. It is root's if every component is, and is
// writable by nobody else (a sticky directory protects what root has in it).
// From the first component of another user on, all is that user's.
func (o owners) open(dir string) (*place, error) {
	if !path.IsAbs(dir) {
		return nil, fmt.Errorf("%s is not absolute", dir)
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/", Err: err}
	}
	p := &place{fd: fd, path: "/", trust: o}
	for name := range strings.SplitSeq(strings.Trim(path.Clean(dir), "/"), "/") {
		if name == "" {
			break
		}
		at := path.Join(p.path, name)
		next, err := unix.Openat(p.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			p.close()
			if errors.Is(err, unix.ENOTDIR) {
				err = fmt.Errorf("%w: a symlink or no directory", errUntrusted)
			}
			return nil, &os.PathError{Op: "open", Path: at, Err: err}
		}
		unix.Close(p.fd)
		p.fd, p.path = next, at
		var st unix.Stat_t
		if err = unix.Fstat(next, &st); err == nil {
			err = p.step(&st)
		}
		if err != nil {
			p.close()
			return nil, fmt.Errorf("%s: %w", at, err)
		}
	}
	return p, nil
}

func (p *place) close() { unix.Close(p.fd) }

// step takes one component into account.
func (p *place) step(st *unix.Stat_t) error {
	if st.Uid != 0 && st.Uid != p.trust.root && p.owner != st.Uid {
		if p.owner != 0 {
			return fmt.Errorf("%w: belongs to uid %d and uid %d", errUntrusted, p.owner, st.Uid)
		}
		p.owner = st.Uid
	}
	others := st.Mode & 0o022
	if p.owner != 0 && st.Gid == p.owner {
		others &^= 0o020 // a user's private group
	}
	if others != 0 && (st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&unix.S_ISVTX == 0) {
		return fmt.Errorf("%w: mode %#o", errUntrusted, st.Mode&0o7777)
	}
	return nil
}

// unchanged says that a file that was read and trusted before is still that
// one, as its owner left it. Nobody but root could have put a symlink among
// root's directories meanwhile; a user could, and one look must not follow it to
// what hangs.
func unchanged(file string, then Stamp, owner uint32) bool {
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

func stamp(st *unix.Stat_t) Stamp {
	return Stamp{Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size, Changed: st.Ctim.Nano()}
}

func (p *place) regular(name string, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s: %w: no regular file", path.Join(p.path, name), errUntrusted)
	}
	return nil
}

// read returns the bytes of a regular file in the directory, at most limit of
// them, and who owns file and path.
func (p *place) read(name string, limit int64) ([]byte, Stamp, uint32, error) {
	at := path.Join(p.path, name)
	// O_NONBLOCK: a FIFO put in place of the file must not hold us.
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
			err = fmt.Errorf("%w: no regular file", errUntrusted)
		}
		return nil, Stamp{}, 0, &os.PathError{Op: "open", Path: at, Err: err}
	}
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, Stamp{}, 0, &os.PathError{Op: "stat", Path: at, Err: err}
	}
	if err := p.regular(name, &st); err != nil {
		return nil, Stamp{}, 0, err
	}
	file := *p // the file's owner counts for the file, not for its neighbours
	if err := file.step(&st); err != nil {
		return nil, Stamp{}, 0, fmt.Errorf("%s: %w", at, err)
	}
	if st.Size > limit {
		return nil, stamp(&st), file.owner, fmt.Errorf("%s has %d bytes, more than %d", at, st.Size, limit)
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", at, limit)
	}
	return raw, stamp(&st), file.owner, err
}
