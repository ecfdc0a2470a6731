// Package peer answers: who is calling?
//
// The answer comes from the kernel and from what root wrote, never from what
// the caller says (DESIGN section 2, rule 1):
//
//  1. SO_PEERCRED tells pid, uid and gid of the process that called
//     connect(2); SO_PEERPIDFD gives a descriptor of that very process.
//  2. /proc/PID is opened, and after that the pidfd is polled: the process
//     lives, so its pid can't have been given to another, so the directory is
//     its own. Everything else is read through that directory.
//  3. In each line of /proc/PID/cgroup a prefix of the path counts as a
//     container only where Records declares exactly that path. The deepest
//     one counts, all lines that name a container must name the same one, and
//     an id below it that nothing declares is refused.
//  4. A path alone proves nothing, for a process that may write to a cgroup
//     file system can move itself into another's cgroup. So the caller's pid
//     namespace must be that of the container's first process, or below it.
//  5. A caller with no container anywhere, one pid, our own pid namespace and
//     our own root directory is a caller of the host. "Host" is what shares
//     these with the daemon: if it runs in a container, that one is its host.
//  6. The process is polled once more after the last read, and Caller.Check
//     repeats the cheap half before each reply, once for requests of one
//     process that come together, and after the last of them has come.
//
// What this can't tell. The identity is that of the process that connected. A
// descriptor handed on, by fork or by SCM_RIGHTS, speaks in the name of who
// connected for as long as that process lives and stays where it was; it
// gains nothing that the connecting process could not have relayed. The same
// process may exec another program after it connected. Containers that were
// given the host's or each other's pid namespace *and* a writable view of the
// host's cgroups can pass for one another, and those that can chroot to the
// host's root directory besides for the host: all that is host power and is
// announced as such (DESIGN section 5, "power").
//
// It needs Linux 5.3 (pidfd_open) and, to look at the namespaces of others,
// CAP_SYS_PTRACE and no landlock domain round the daemon: landlock denies
// /proc/PID/ns even to root.
package peer

import (
	"context"
	"errors"
	"fmt"
)

// Container is what root-owned records say of a container: the part of them
// that this room needs to check a caller against.
type Container struct {
	ID      string
	Runtime string // "docker", "podman", "containerd", "cri-o"
	UID     uint32 // who owns the records: 0, or the user of a rootless engine

	// CgroupPath is the path that the records declare, from the root of
	// the cgroup hierarchy: "/docker/<id>", "/system.slice/docker-<id>.scope".
	CgroupPath string

	// InitPID is the container's first process, whose pid namespace is the
	// container's, and InitStart its start time in clock ticks since boot
	// (proc_pid_stat(5), field 22), 0 where no record tells.
	InitPID   int
	InitStart uint64

	// HostPID says that the container shares the pid namespace of the host.
	HostPID bool
}

// Records is what this room needs to know of what was started.
type Records interface {
	// Declared returns the container whose record declares exactly this
	// cgroup path, false where none does; root's record goes before a
	// user's. It is asked for every prefix of a caller's path, so it must
	// be quick and must not block on an engine. An error means that the
	// records could not be read or contradict each other: the caller is
	// refused. It is called by several goroutines at once.
	Declared(ctx context.Context, cgroupPath string) (Container, bool, error)
}

// ErrUnattributed says that the kernel and the records together name no one.
var ErrUnattributed = errors.New("caller could not be attributed")

// refusal is the error of every caller that was not attributed; it wraps
// ErrUnattributed. Its text may be told to the caller: it says what was seen
// of the caller and what to do, and nothing of any other container.
type refusal struct {
	reason string
	cause  error // what was found, with paths and ids: for the journal only
}

func (r *refusal) Error() string { return ErrUnattributed.Error() + ": " + r.reason }

// Unwrap returns ErrUnattributed and the cause.
func (r *refusal) Unwrap() []error {
	if r.cause == nil {
		return []error{ErrUnattributed}
	}
	return []error{ErrUnattributed, r.cause}
}

// refuse returns a Refusal; the cause may be nil.
func refuse(cause error, reason string, args ...any) error {
	return &refusal{reason: fmt.Sprintf(reason, args...), cause: cause}
}
