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
	c := &Caller{PID: pid, PIDFD: true, binding: id.bindings.bind(pid, own)}
	if err := id.attribute(ctx, c); err != nil {
		if ctx.Err() == nil {
			err = c.orEnded(err)
		}
		c.Close()
		return nil, err
	}
	return c, nil
}

// Traits are what a process is identified by, as the kernel shows it: its
// cgroups, and its pid namespace. Two processes with equal traits are of the
// same container, for as long as that one runs. Traits can be compared.
type Traits struct {
	cgroups string
	pidNS   fileID
}

// TraitsOf reads them, at a third of what identifying costs.
func (id *Identifier) TraitsOf(pid, pidfd int) (Traits, error) {
	p, err := openProcess(id.proc, pid, pidfd)
	if err != nil {
		return Traits{}, unreadable(err)
	}
	defer p.closeDir()
	var t Traits
	if t.cgroups, err = p.read("cgroup"); err != nil {
		return Traits{}, unreadable(err)
	}
	if t.pidNS, err = p.pidNS(); err != nil {
		return Traits{}, unreadable(err)
	}
	if err := alive(pidfd); err != nil { // after the last read
		return Traits{}, unreadable(err)
	}
	return t, nil
}
