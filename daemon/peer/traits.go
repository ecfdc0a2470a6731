package peer

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Traits are the facts that identify a process: its cgroups and its pid namespace.
// Two processes with equal traits are of the same container, as long as that runs.
// Traits are comparable.
type Traits struct {
	cgroups string
	cgroup  uint64 // in place of cgroups, if the host has cgroup v2 only
	pidNS   procfs.FileID
}

// TraitsOf reads the traits of a process. It costs a fifth of IdentifyProcess.
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
	// The process lives after the last read, so no other process had its pid, so
	// all facts are of this process.
	if err := procfs.Alive(pidfd); err != nil {
		return Traits{}, unreadable(err)
	}
	return t, nil
}

// cgroupsOf reads the cgroup file of a process.
func (id *Identifier) cgroupsOf(pid int) (string, error) {
	fd, err := unix.Openat(id.proc, strconv.Itoa(pid)+"/cgroup", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("open cgroup of the process: %w", ended(err))
	}
	defer unix.Close(fd)
	return readAll(fd)
}

// pidNSOf reads the pid namespace by the pidfd, or by /proc on older kernels.
func (id *Identifier) pidNSOf(pid, pidfd int) (procfs.FileID, error) {
	if id.kernel.pidfdNS {
		ns, err := procfs.PIDNamespace(pidfd)
		return ns, ended(err) // nil stays nil
	}
	ns, err := procfs.Stat(id.proc, strconv.Itoa(pid)+"/ns/pid")
	if err != nil {
		return ns, fmt.Errorf("stat the pid namespace of the process: %w", ended(err))
	}
	return ns, nil
}
