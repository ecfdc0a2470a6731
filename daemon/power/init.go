package power

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/logs"
)

// maxMounts bounds how many mounts of one container are looked at.
const maxMounts = 16384

// Init is a container's first process, at START: the runtime's set-up is done, and
// nothing of the container has run.
type Init struct {
	PID   int
	PIDFD int // keeps PID from being another process's

	// Ran says that the container's program runs already. Then what it opened, and where
	// it works, is its own, and is not judged.
	Ran bool
}

// Verdict is what the kernel shows of a container.
type Verdict struct {
	Classes []string            // sorted, without duplicates
	Mounted []logs.MountedPlace // by destination: mounts of another place than their source's text
}

// Container is what root's records say of a container that is judged.
type Container struct {
	Facts
	Root    string   // its root file system on the host
	OwnRoot bool     // the engine made Root for this container alone, and keeps it where it keeps such
	AnyRoot bool     // the engine alone chooses Root, on whatever its storage lies
	Cgroup  string   // path from the root of the hierarchy, "" where unknown
	Files   []string // what the engine made for it, by exact names on the host
	Volumes []string // directories of the host in which a volume is NAME/_data

	Own []string // directories and files of the host that were made for it or its pod, with all below

	SocketDir string // of cima's socket, which containers mount read-only

	// Logs are directories of the host where the engine writes what the container prints.
	Logs []string

	Data     []string // directories of the host that hold data alone, by the administrator's word
	DataRead []string // those that containers may read
	Storages []string // directories in which engines store: never data

	// UnknownRuntime says that neither runc nor crun made it: a runtime that may act on
	// any annotation.
	UnknownRuntime bool

	// Others lists the other containers' first processes. It is called where the
	// container entered a namespace by its path.
	Others func(context.Context) ([]Other, error)
}

// Other is another container.
type Other struct {
	PID     int
	Network bool     // by its engine's record, this one has the network of that one
	Pod     bool     // both are of one pod
	Files   []string // that the engine made for it, and mounts in containers that have its network
	Shm     []string // likewise, in those that have its IPC namespace
}

// Judge looks at a container's first process. All that it needs is read of the kernel,
// by kernel identity: ids of mounts, devices and inodes. The host is where paths of
// Container lie.
//
// It never opens what a user or another machine serves, and follows no link in the
// container. An error says that ctx ended, that the process ended, or that it can't be
// read.
func (h Host) Judge(ctx context.Context, c Container, init Init) (Verdict, error) {
	if c.bundle == nil {
		return Verdict{}, ctx.Err()
	}
	j := &judge{host: h, c: c, init: init, process: fmt.Sprintf("/proc/%d", init.PID), walk: walker{left: maxWalk}}
	err := j.all(ctx)
	// What was read was read of this process: its pid was its own all the while.
	if alive := procfs.Alive(init.PIDFD); alive != nil {
		err = alive
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("process %d: %w", init.PID, err)
	}
	return Verdict{Classes: distinct(j.classes), Mounted: j.mounted}, ctx.Err()
}

// judge is one look at one process.
type judge struct {
	host    Host
	c       Container
	init    Init
	process string // its directory of /proc
	tables  tables // of the host
	mounts  []procfs.Mount
	byID    map[uint64]*procfs.Mount
	root    int // O_PATH of its root directory, -1 where that can't be opened

	files   map[procfs.FileID]bool // the engine's
	volumes []place
	pods    []declared
	data    []declared
	read    []declared
	socket  place // cima's directory
	cgroups map[string]bool
	walk    walker

	sockets      []place // of the host's sockets
	socketsFound bool

	classes []string
	mounted []logs.MountedPlace
}

func (j *judge) say(classes ...string) { j.classes = append(j.classes, classes...) }

func (j *judge) all(ctx context.Context) error {
	if j.c.UnknownRuntime && j.c.bundle.annotated {
		j.say(classAnnotation + unknownElse)
	}
	if err := j.readMounts(); err != nil {
		return err
	}
	if err := j.namespaces(ctx); err != nil {
		return err
	}
	if err := j.capabilities(); err != nil {
		return err
	}
	if !j.init.Ran {
		if err := j.descriptors(); err != nil {
			return err
		}
		if err := j.workingDirectory(ctx); err != nil {
			return err
		}
	}
	if err := j.outputs(); err != nil {
		return err
	}
	if err := j.openRoot(); err != nil {
		return err
	}
	if j.root >= 0 {
		defer unix.Close(j.root)
	}
	j.prepare()
	if !slices.Contains(j.c.bundle.classes, classDevice+"*") { // which says all of them
		j.devices()
	}
	for i := range j.mounts {
		if err := ctx.Err(); err != nil {
			return err
		}
		j.mount(&j.mounts[i])
	}
	return nil
}

// readMounts reads the mounts of the process and of the host, in an order that is the
// same in each run.
func (j *judge) readMounts() (err error) {
	if j.mounts, err = procfs.Mounts(j.process); err != nil {
		return err
	}
	if len(j.mounts) > maxMounts {
		return fmt.Errorf("%w: %d mounts, of which %d are looked at", procfs.ErrTooMany, len(j.mounts), maxMounts)
	}
	slices.SortStableFunc(j.mounts, byPoint)
	j.byID = make(map[uint64]*procfs.Mount, len(j.mounts))
	for i := range j.mounts {
		j.byID[j.mounts[i].ID] = &j.mounts[i]
	}
	j.tables, err = j.host.tables(j.process)
	return err
}
