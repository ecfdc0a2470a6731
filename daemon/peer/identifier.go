package peer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/daemon/trust"
)

// Options say where kernel and records are read.
type Options struct {
	Records    Records // required
	procRoot   string  // default /proc; it must show the daemon's own pid namespace
	cgroupRoot string  // default /sys/fs/cgroup
	subUIDs    string  // default /etc/subuid
}

// Identifier identifies callers. Its methods may be called concurrently.
type Identifier struct {
	kernel kernel
	proc   int // O_PATH of /proc
	roots  *roots
	rule   rule
	users  users

	watches processWatches
	origins origins

	// The daemon's own pid namespace and root directory: those of the host.
	ownNS   procfs.FileID
	ownRoot procfs.FileID

	mu     sync.Mutex
	inits  map[Container]*initProcess
	closed bool
}

// New tries the kernel's interfaces, and reads the daemon's own cgroups and
// namespaces. After an error no caller can be identified on this host.
func New(o Options) (*Identifier, error) {
	if o.Records == nil {
		return nil, errors.New("peer: no records given")
	}
	if o.procRoot == "" {
		o.procRoot = "/proc"
	}
	if o.cgroupRoot == "" {
		o.cgroupRoot = "/sys/fs/cgroup"
	}
	if o.subUIDs == "" {
		o.subUIDs = "/etc/subuid"
	}
	id := &Identifier{proc: -1, inits: map[Container]*initProcess{}, users: users{&trust.SubUIDs{File: o.subUIDs}}}
	if err := id.start(o); err != nil {
		id.Close()
		return nil, fmt.Errorf("peer: %w", err)
	}
	return id, nil
}

func (id *Identifier) start(o Options) error {
	var err error
	if id.kernel, err = probe(); err != nil {
		return err
	}
	if id.roots, id.kernel.cgroup, err = newRoots(o.cgroupRoot); err != nil {
		return err
	}
	if id.proc, err = unix.Open(o.procRoot, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open %s: %w", o.procRoot, err)
	}
	pid := os.Getpid()
	if self, err := os.Readlink(o.procRoot + "/self"); err != nil || self != strconv.Itoa(pid) {
		return fmt.Errorf("%s/self is %q, the daemon's pid is %d: mount the proc file system of its own pid namespace", o.procRoot, self, pid)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	p, err := openProcess(id.proc, pid, pidfd)
	if err != nil {
		return err
	}
	defer p.closeDir()
	if id.ownNS, err = p.pidNS(); err != nil {
		return err
	}
	if id.ownRoot, err = p.rootDir(); err != nil {
		return err
	}
	text, err := p.read("cgroup")
	if err != nil {
		return err
	}
	own, err := parseCgroup(text)
	if err != nil {
		return fmt.Errorf("the daemon's own %w", err)
	}
	id.rule = rule{records: o.Records, own: own, owner: id.roots.owner}
	return nil
}

// Close closes all descriptors. Close all Callers before.
func (id *Identifier) Close() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.closed {
		return nil
	}
	id.closed = true
	for _, f := range id.inits {
		f.release()
	}
	clear(id.inits)
	if id.roots != nil {
		id.roots.close()
	}
	if id.proc >= 0 {
		unix.Close(id.proc)
	}
	return nil
}
