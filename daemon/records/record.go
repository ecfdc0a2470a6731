package records

import (
	"path"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/power"
)

// Record is what root, or the user of a rootless engine, wrote down of one
// container. Records are shared: change none of what they point to.
type Record struct {
	ID      string // as the engine names it: 64 hex digits, or any name (ctr)
	Runtime string // "docker", "podman", "containerd", "cri-o"
	Bundle  string // the directory of config.json
	UID     uint32 // who wrote it: 0, or the user of a rootless engine

	// Stamp changes whenever config.json is written again, as podman does
	// at each start.
	Stamp Stamp

	// CgroupPath is the declared path from the root of the hierarchy:
	// "/docker/<id>", "/system.slice/docker-<id>.scope". Empty where none
	// is declared (podman run --cgroups=disabled).
	CgroupPath string

	// InitPID is the container's first process and InitStart its start time
	// in clock ticks since boot (proc_pid_stat(5), field 22). Both 0 before
	// the runtime made it and after it ended; InitStart 0 where only a pid
	// file tells. The process may be gone: check it.
	InitPID   int
	InitStart uint64

	HostPID  bool          // in the pid namespace of the host
	RootPath string        // root file system, in the host's mount namespace
	Pod      launch.Pod    // where a kubelet started it
	Launch   launch.Launch // without digests of files: Store.Measure adds them

	// Err says why the record is no more than an id, a place and, where the
	// runtime noted it, a first process: its config.json is torn, oversized
	// or not to be trusted. Such a record matches no cgroup.
	Err error

	details details
}

// details are what else the bundle shows.
type details struct {
	power  power.Facts
	search string // the container's PATH
}

func (r Record) config() string { return path.Join(r.Bundle, "config.json") }

// Stamp names one writing of a file.
type Stamp struct {
	Device, Inode uint64
	Size          int64
	Changed       int64 // ctime, ns
}
