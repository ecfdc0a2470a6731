package peer

import (
	"context"
	"errors"
	"sync/atomic"
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

	*processWatch
	closed atomic.Bool
}

// Check says whether the caller is still the one that was identified: the
// process lives, so does its container's first one, and the cgroups are the
// same. It is cheap and belongs before every reply: connections of one process
// whose requests came together have one look together, which begins after the
// last of them called. The error is a *Refusal, and stays: such a caller must
// connect again.
func (c *Caller) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.closed.Load() {
		return refuse(errClosed, "its connection is closed")
	}
	return c.check()
}

// Alive says whether the process that connected lives, and the first one of
// its container.
func (c *Caller) Alive() bool {
	if c.closed.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.processWatch.closed && c.alive() == nil
}

// Close gives back the descriptors that no other connection of the process
// needs; Check fails afterwards.
func (c *Caller) Close() error {
	if !c.closed.Swap(true) {
		c.release()
	}
	return nil
}

var errClosed = errors.New("the caller was closed")
