// Package peer answers: who is calling?
//
// The answer comes from the kernel and from records that root wrote, never from the
// caller (SECURITY.md, What holds it, 1):
//
//  1. SO_PEERCRED returns pid, uid and gid of the process that called connect(2),
//     and SO_PEERPIDFD a descriptor of that process.
//  2. Identify opens /proc/PID, and then polls the pidfd: the process lives, so no
//     other process can have its pid, so the directory is its own. Identify reads
//     everything else through that directory.
//  3. In each line of /proc/PID/cgroup a prefix of the path names a container only
//     if Records declares exactly that prefix. The longest such prefix counts. All
//     lines that name a container must name the same one, and a container id further
//     down that no record declares is refused.
//  4. A path alone proves nothing: a process that may write to a cgroup file system
//     can move itself to another cgroup. So the caller's pid namespace must be that
//     of the container's first process, or below it.
//  5. A caller that names no container, and that has one pid, the daemon's pid
//     namespace and the daemon's root directory, is a caller of the host. If the
//     daemon runs in a container, that container is the host.
//  6. Identify polls the process once more after the last read. Caller.Check repeats
//     the cheap half before each reply.
//
// The identity is that of the process that connected. A process that gets the
// connection by fork or SCM_RIGHTS speaks in the name of that process, as long as
// that process lives and stays where it was. The process may execute another program
// after it connected. Containers that have the host's or each other's pid namespace
// and can write to the host's cgroups can pass for one another; with the host's root
// directory they can pass for the host. That is power over the host, and the log
// says so (cima-evidence(7), event power). The package needs Linux 5.3 (pidfd_open)
// and CAP_SYS_PTRACE, and no landlock domain round the daemon: landlock denies
// /proc/PID/ns even to root.
package peer

import (
	"context"
	"errors"
	"fmt"
)

// Container is the part of a container's record that a caller is checked against.
type Container struct {
	ID      string
	Name    string // in the log: no two of a user's containers have the same at once
	Runtime string // "docker", "podman", "containerd", "cri-o"
	UID     uint32 // owner of the record: 0, or the user of a rootless engine

	// CgroupPath is the path that the record declares, from the root of the
	// cgroup hierarchy: "/docker/<id>", "/system.slice/docker-<id>.scope". It may
	// differ from hierarchy to hierarchy; Hierarchy is the one that it is in, as
	// /proc/PID/cgroup names it or by one controller, or "" where it doesn't matter.
	CgroupPath string
	Hierarchy  string

	// InitPID is the container's first process, whose pid namespace is the
	// container's, and InitStart its start time in clock ticks since boot
	// (proc_pid_stat(5), field 22), 0 if the record has none.
	InitPID   int
	InitStart uint64

	// HostPID says that the container has the pid namespace of the host.
	HostPID bool
}

// Records are the records of containers.
type Records interface {
	// Declared returns the container whose record declares exactly this cgroup
	// path in a hierarchy, which is named as /proc/PID/cgroup names it; false if no
	// record does. The answer holds for each hierarchy if Container.Hierarchy is empty,
	// also where it is false. Root's record comes before a user's. It is called for each
	// prefix of a caller's path, so it must be quick and must not wait for an engine. It
	// is called concurrently. After an error, which says that the records can't be read
	// or contradict each other, the caller is refused.
	Declared(ctx context.Context, hierarchy, cgroupPath string) (Container, bool, error)
}

// ErrUnattributed says that kernel and records together name no caller.
var ErrUnattributed = errors.New("caller could not be attributed")

// refusal is the error of a caller that was not attributed; it wraps
// ErrUnattributed. The caller may see its text: it says what was seen of the caller
// and what to do, and nothing of any other container.
type refusal struct {
	reason string
	cause  error // what was found, with paths and ids; for the journal only
}

func (r *refusal) Error() string { return ErrUnattributed.Error() + ": " + r.reason }

// Unwrap returns ErrUnattributed and the cause.
func (r *refusal) Unwrap() []error {
	if r.cause == nil {
		return []error{ErrUnattributed}
	}
	return []error{ErrUnattributed, r.cause}
}

// refuse returns a refusal; cause may be nil.
func refuse(cause error, reason string, args ...any) error {
	return &refusal{reason: fmt.Sprintf(reason, args...), cause: cause}
}

// Owner is the container's name in events and claims, with the uid before it
// ("1000/<id>") where a user owns the record or a cgroup above the container, so that
// a user's container can't pass for a container of root's.
func (c Container) Owner(cgroupOwner uint32) string {
	uid := c.UID
	if uid == 0 {
		uid = cgroupOwner
	}
	if uid == 0 {
		return c.Name
	}
	return fmt.Sprintf("%d/%s", uid, c.Name)
}
