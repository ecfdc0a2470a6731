package peer

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
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
		return nil, unreadable(fmt.Errorf("pidfd of process %d: %w", pid, procfs.ErrEnded))
	}
	c := &Caller{PID: pid, PIDFD: true, processWatch: id.watches.begin(pid, own)}
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
	cgroup  uint64 // instead of cgroups, where all there is is cgroup v2
	pidNS   procfs.FileID
}

// TraitsOf reads them, at a fifth of what identifying costs.
func (id *Identifier) TraitsOf(pid, pidfd int) (t Traits, err error) {
	if id.kernel.cgroup == "v2" && id.kernel.pidfdInfo && len(id.rule.own) == 1 {
		t.cgroup, err = cgroupID(pidfd)
	} else {
		t.cgroups, err = id.cgroupsOf(pid)
	}
	if err != nil {
		return Traits{}, unreadable(err)
	}
	if t.pidNS, err = id.pidNSOf(pid, pidfd); err != nil {
		return Traits{}, unreadable(err)
	}
	// The pid is the process's own for as long as it lives, and it lives after
	// the last read: what was read was read of it.
	if err := procfs.Alive(pidfd); err != nil {
		return Traits{}, unreadable(err)
	}
	return t, nil
}

func (id *Identifier) cgroupsOf(pid int) (string, error) {
	fd, err := unix.Openat(id.proc, strconv.Itoa(pid)+"/cgroup", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("open cgroup of the process: %w", ended(err))
	}
	defer unix.Close(fd)
	return readAll(fd)
}

// pidNSOf asks the pidfd, or where that can't tell, /proc.
func (id *Identifier) pidNSOf(pid, pidfd int) (procfs.FileID, error) {
	if id.kernel.pidfdNS {
		ns, err := procfs.PIDNamespace(pidfd)
		return ns, ended(err) // nil, where err is
	}
	ns, err := procfs.Stat(id.proc, strconv.Itoa(pid)+"/ns/pid")
	if err != nil {
		return ns, fmt.Errorf("stat the pid namespace of the process: %w", ended(err))
	}
	return ns, nil
}
