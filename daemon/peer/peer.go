// Package peer answers: who is calling?
package peer

import (
	"context"
	"errors"
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
	// cgroup path, false where none does. An error means that the records
	// could not be read or contradict each other: the caller is refused.
	Declared(ctx context.Context, cgroupPath string) (Container, bool, error)
}

// ErrUnattributed says that the kernel and the records together name no one.
var ErrUnattributed = errors.New("caller could not be attributed")
