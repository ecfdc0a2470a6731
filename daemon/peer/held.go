package peer

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// IdentifyProcess applies the rules of Identify to a process that the kernel
// named by a pidfd, as fanotify does; pid is its number in our pid namespace.
// The pidfd stays the caller's to close, the Caller must be closed. UID and GID
// of the Caller are not filled in.
func (id *Identifier) IdentifyProcess(ctx context.Context, pid, pidfd int) (*Caller, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	own, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, unreadable(fmt.Errorf("pidfd of process %d: %w", pid, errEnded))
	}
	c := &Caller{PID: pid, PIDFD: true, pidfd: own, cgroup: watch{fd: -1}}
	if err := id.attribute(ctx, c); err != nil {
		if ctx.Err() == nil {
			err = c.orEnded(err)
		}
		c.Close()
		return nil, err
	}
	return c, nil
}
