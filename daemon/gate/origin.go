package gate

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// spaces are the host's namespaces, by which it is known where a process comes from that
// executes a runtime.
//
// A container that holds a descriptor of the host's runtime (/proc/self/exe of runc's init
// is one) can execute it as often as it likes. That is no start, and goes on at once
// (isNoStart). The rule is the pid namespace, and nothing else:
//
//   - A process never changes its pid namespace, and unshare(2) and setns(2) concern its
//     children (pid_namespaces(7)): no process of a container gets into the host's, and an
//     engine is never put into a container's.
//   - A runtime's record names the container's first process by a number of the
//     namespace that the runtime is in. Records are looked up in the host's, so no start
//     from another one is ever judged, and nothing is lost that could be gated.
//   - A runtime joins a container's namespaces in children, behind the exec that is held
//     (runc exec), and what it then executes is the container's program.
//
// Cgroup, mount and user namespaces say nothing here: conmon may be in a cgroup below
// another container's (podman run --cgroup-parent), an engine may have a mount namespace of
// its own (systemd, snap), and a rootless one has a user namespace. A container in the
// host's pid namespace has a class of power, and is held like an engine; it takes the
// places of its own mount namespace.
type spaces struct{ pid procfs.FileID }

// hostSpaces are those of this program, which is on the host.
func hostSpaces() (spaces, error) {
	pid, err := procfs.Stat(unix.AT_FDCWD, "/proc/self/ns/pid")
	if err != nil {
		return spaces{}, fmt.Errorf("the daemon's own pid namespace: %w", err)
	}
	return spaces{pid}, nil
}

// isNoStart reports whether a process that executes a runtime starts no container of
// root's: it is in another pid namespace than the host's, or it is a user's, whose
// bundles prove nothing. A process that can't be read is none of these.
func (s spaces) isNoStart(h *HeldExec) bool {
	space, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/ns/pid", h.PID))
	if err != nil {
		return false
	}
	if space == s.pid {
		uid, err := procfs.EffectiveUID(h.PID)
		if err != nil || uid == 0 {
			return false
		}
	}
	return procfs.Alive(h.PIDFD) == nil // after the reads: they were of this process
}

// mountSpace returns the mount namespace of a held process, zero if it can't be read.
func (h *HeldExec) mountSpace() procfs.FileID {
	space, _ := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/ns/mnt", h.PID))
	return space
}

// UID returns the effective user of a held process, false if the process has ended.
func (h *HeldExec) UID() (uint32, bool) {
	uid, err := procfs.EffectiveUID(h.PID)
	return uid, err == nil && procfs.Alive(h.PIDFD) == nil
}
