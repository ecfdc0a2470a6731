package peer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errMoved = errors.New("the process is in another cgroup than before")

// cgroupWatch is the cgroup that a process was in, and the means to see whether it still is.
type cgroupWatch struct {
	fd   int    // its cgroup file, open; it can't be read after the process has ended
	text string // its content
	buf  []byte // for reading it again, one byte longer than text
	id   uint64 // in place of these, if the host has cgroup v2 only
}

// watchCgroup reads the cgroup file and keeps it open.
func watchCgroup(p process) (cgroupWatch, error) {
	w := cgroupWatch{fd: -1}
	fd, err := p.open("cgroup")
	if err != nil {
		return w, err
	}
	if w.text, err = readAll(fd); err != nil {
		unix.Close(fd)
		return w, fmt.Errorf("read cgroup of the process: %w", err)
	}
	w.fd = fd
	return w, nil
}

// useID changes the watch to the cgroup id, which PIDFD_GET_INFO returns faster than
// the file and without a descriptor. The id must be that of the path that was read.
func (w *cgroupWatch) useID(pidfd int, roots *roots, h hierarchy) error {
	root, err := roots.root(h)
	if err != nil {
		return err
	}
	s, err := walk(root, h.path)
	if err != nil {
		return err
	}
	if w.id, err = cgroupID(pidfd); err != nil {
		return err
	}
	if w.id != s.inode {
		return errMoved
	}
	unix.Close(w.fd)
	w.fd, w.text = -1, ""
	return nil
}

// unchanged returns errMoved if the process is in another cgroup than it was.
func (w *cgroupWatch) unchanged(pidfd int) error {
	if w.fd < 0 {
		now, err := cgroupID(pidfd)
		if err == nil && now != w.id {
			err = errMoved
		}
		return err
	}
	if w.buf == nil {
		w.buf = make([]byte, len(w.text)+1)
	}
	for {
		n, err := unix.Pread(w.fd, w.buf, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("read cgroup of the process: %w", ended(err))
		case string(w.buf[:n]) != w.text:
			return errMoved
		default:
			return nil
		}
	}
}

// same reports whether two watches are of the same cgroup.
func (w *cgroupWatch) same(other *cgroupWatch) bool {
	return w.text == other.text && w.id == other.id && (w.fd < 0) == (other.fd < 0)
}

func (w *cgroupWatch) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}
