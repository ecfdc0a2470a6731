package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Caller is the process that connected, as it was when it was identified. Its
// fields don't change; Check says whether they are still true.
type Caller struct {
	PID      int // in the daemon's pid namespace; pid, uid and gid as of connect(2)
	UID, GID uint32

	// Container is nil for a caller of the host, and Unit is empty for a
	// caller in a container or in no systemd unit.
	Container *Container
	Unit      string

	// Instance is the inode of the container's cgroup directory: in the
	// unified hierarchy if the container's first process is in it there,
	// else in systemd's, else in the first by name. A container that was
	// started anew has a new one. 0 for the host.
	Instance uint64

	// CgroupOwner is the owner of the first cgroup directory, from the root
	// of the hierarchy down to the container's, that is not root's; 0 if
	// all are, and for the host. Who owns it can move any process of theirs
	// into it: limits are charged to them.
	CgroupOwner uint32

	// PIDFD says that the kernel itself named the process that connected.
	// Without (Linux before 6.5) it is the process that had the pid a
	// moment later, which may be another if the first one died.
	PIDFD bool

	mu     sync.Mutex
	pidfd  int
	first  *first // nil for the host
	cgroup watch
	failed error // a caller that changed once stays refused
	closed bool
}

// Check says whether the caller is still the one that was identified: the
// process lives, so does its container's first one, and the cgroups are the
// same. It is cheap and belongs before every reply. The error is a *Refusal,
// and stays: such a caller must connect again.
func (c *Caller) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return refuse(errClosed, "its connection is closed")
	}
	if c.failed == nil {
		c.failed = c.check()
	}
	return c.failed
}

func (c *Caller) check() error {
	if err := c.cgroup.unchanged(c.pidfd); err != nil {
		if errors.Is(err, errMoved) {
			return refuse(fmt.Errorf("pid %d: %w", c.PID, err), "its cgroups changed after it connected; connect again")
		}
		return unreadable(err)
	}
	if c.first != nil {
		if err := same(c.first.root, c.Container.CgroupPath, c.Instance); err != nil {
			return refuse(err, "its container's cgroup was removed or replaced; connect again")
		}
	}
	if err := c.alive(); err != nil { // after the last read
		return unreadable(err)
	}
	return nil
}

// Alive says whether the process that connected lives, and the first one of
// its container.
func (c *Caller) Alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && c.alive() == nil
}

func (c *Caller) alive() error {
	if c.first == nil {
		return alive(c.pidfd)
	}
	return alive(c.pidfd, c.first.pidfd)
}

// Close gives back the descriptors; Check fails afterwards.
func (c *Caller) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	unix.Close(c.pidfd)
	c.cgroup.close()
	if c.first != nil {
		c.first.release()
	}
	return nil
}

var (
	errClosed = errors.New("the caller was closed")
	errMoved  = errors.New("the process is in another cgroup than before")
)

// watch is where a process was, and the means to see whether it still is.
type watch struct {
	fd   int    // its cgroup file, kept open: after its end it reads nothing
	text string // what stood there
	buf  []byte // to read it again, one byte longer
	id   uint64 // instead of all that, where all there is is cgroup v2
}

// watchCgroup reads the cgroup file and keeps it open.
func watchCgroup(p process) (watch, error) {
	w := watch{fd: -1}
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

// useID goes over to the cgroup id, which PIDFD_GET_INFO tells faster than the
// file and without a descriptor. The id must be that of the path that was read.
func (w *watch) useID(pidfd int, roots *roots, h hierarchy) error {
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

// unchanged returns errMoved if the process is elsewhere than it was.
func (w *watch) unchanged(pidfd int) error {
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

func (w *watch) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}
