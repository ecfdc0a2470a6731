package peer

import (
	"context"
	"errors"
	"sync/atomic"
)

// Caller is the process that connected, as it was when it was identified. Its fields
// don't change; Check reports whether they are still true.
type Caller struct {
	PID      int // in the daemon's pid namespace; pid, uid and gid as of connect(2)
	UID, GID uint32

	// TwoUsers says that the uids of a process that IdentifyProcess found on the host
	// differ: a program is set-user-ID, or goes from one user to another.
	TwoUsers bool

	// Container is nil for a caller of the host, and Unit is empty for a
	// caller in a container or in no systemd unit.
	Container *Container
	Unit      string

	// User is the user of a caller of the host: the user of its systemd slice,
	// else the owner of its subordinate uid (subuid(5)), else its uid. For uid 0
	// it is always 0.
	User uint32

	// CgroupInode is the inode of the container's cgroup directory: in the unified
	// hierarchy if the container's first process is in that cgroup there, else in
	// systemd's hierarchy, else in the first by name. It changes when the
	// container is started anew. 0 for the host.
	CgroupInode uint64

	// CgroupOwner is the owner of the first cgroup directory above the container's, from
	// the root of the hierarchy down, that root does not own; in hierarchies of cgroup v1
	// the container's own counts too. It is 0 if root owns all, and for the host. The
	// owner can move any process of theirs to the cgroup, so the owner is charged.
	CgroupOwner uint32

	// Payer is who is charged for what the caller does: the container; the user who owns
	// its record or a cgroup above it; on the host User. A container whose own cgroup
	// belongs to a subordinate uid, as root's engines do for a user namespace, pays for
	// itself.
	Payer string

	// PIDFD says that the kernel gave a descriptor of the process that connected.
	// If false (Linux before 6.5), Caller is the process that had the pid a
	// moment later: another one, if the first has ended.
	PIDFD bool

	*processWatch
	byNumber bool // IdentifyProcess found it: no socket says whose it is
	closed   atomic.Bool
}

// Check returns an error unless the caller is still the one that was identified: its
// process and the container's first process live, and the cgroups are the same. Call
// it before each reply. It is cheap: concurrent calls for one process share an
// inspection, which begins after the last call. The error wraps ErrUnattributed and
// stays: such a caller must connect again.
func (c *Caller) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.closed.Load() {
		return refuse(errClosed, "its connection is closed")
	}
	return c.check()
}

// Alive reports whether the process that connected and its container's first process
// live.
func (c *Caller) Alive() bool {
	if c.closed.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.processWatch.closed && c.alive() == nil
}

// Close closes the descriptors that no other connection of the process needs. Check
// fails afterwards.
func (c *Caller) Close() error {
	if !c.closed.Swap(true) {
		c.release()
	}
	return nil
}

var errClosed = errors.New("the caller was closed")
