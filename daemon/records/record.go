package records

import (
	"path"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/trust"
)

// Record is what root, or the user of a rootless engine, wrote down about one
// container. Records share what they point to: don't change it.
type Record struct {
	ID      string // as the engine names it: 64 hex digits, or any name (ctr)
	Name    string // in the log, where no two of root's containers that are there at once have the same (Store.name)
	Runtime string // "docker", "podman", "containerd", "cri-o"
	Bundle  string // the directory of config.json
	UID     uint32 // that wrote the bundle: 0, or the user of a rootless engine

	// Stamp changes whenever config.json is written again: podman does so at
	// each start.
	Stamp trust.Stamp

	// CgroupPath is the container's path from the root of the hierarchy:
	// "/docker/<id>", "/system.slice/docker-<id>.scope". Where the runtime decides
	// (a relative path), its own record has it, and it is empty until then. There,
	// hierarchies may differ; this is the path in the unified one, else in
	// systemd's, else in the first by name. Empty where none is declared (podman
	// run --cgroups=disabled).
	CgroupPath string
	Hierarchy  string // of CgroupPath, where hierarchies differ: a controller

	// InitPID is the container's first process and InitStart its start time in
	// clock ticks since boot (proc_pid_stat(5), field 22). Both are 0 before the
	// runtime made the process and after it ended; InitStart is 0 where the
	// runtime left no more than a pid file. The process may be gone: check it.
	InitPID   int
	InitStart uint64

	// StateDir is the runtime's directory of the container, where InitPID was read;
	// empty where that was a pid file alone.
	StateDir string

	HostPID  bool          // in the pid namespace of the host
	RootPath string        // root file system, in the host's mount namespace
	Pod      launch.Pod    // where a kubelet started it
	Launch   launch.Launch // without digests of files: Store.Measure adds them

	// Err says why the record has no more than an id, a bundle's directory and,
	// where the runtime noted it, a first process: its config.json is torn,
	// oversized or not to be trusted. Such a record matches no cgroup.
	Err error

	details details
}

// details are what else the bundle shows, for Measure and Power.
type details struct {
	power   power.Facts
	sandbox string // id of its pod's first container, as the bundle has it
	search  string // the container's PATH
	user    identity
	cgroup  declaration
	mapped  uint32 // who owns the bundle's directory: the container's root, with a user namespace; 0: root

	byController map[string]string // the cgroups, where hierarchies differ

	labels  map[string]launch.Text // of docker's, those that the rules name
	network string                 // name of the docker container whose network it has, by docker's record
}

func (r Record) config() string { return path.Join(r.Bundle, "config.json") }
