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

	// User is whom a caller of the host belongs to, however many uids they
	// have: the user of its systemd slice, else the owner of its subordinate
	// uid (subuid(5)), else its uid. Root is root wherever it is.
	User uint32

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
		c.failed = c.orEnded(c.check())
	}
	return c.failed
}

// orEnded makes plain why a process that has ended was refused: what it left
// behind reads like a process that moved.
func (c *Caller) orEnded(err error) error {
	if err == nil {
		return nil
	}
	if end := alive(c.pidfd); end != nil {
		return unreadable(end)
	}
	return err
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

var errClosed = errors.New("the caller was closed")
