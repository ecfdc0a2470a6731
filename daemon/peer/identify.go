package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Options says where the kernel's facts and the records are.
type Options struct {
	Records    Records // required
	procRoot   string  // default /proc; it must show the daemon's own pid namespace
	cgroupRoot string  // default /sys/fs/cgroup
	subUIDs    string  // default /etc/subuid
}

// Identifier tells who calls. Its methods may be called by several goroutines
// at once.
type Identifier struct {
	kernel kernel
	proc   int // O_PATH of /proc
	roots  *roots
	rule   rule
	users  users

	watches processWatches

	// What "host" means: the daemon's own.
	ownNS   procfs.FileID
	ownRoot procfs.FileID

	mu     sync.Mutex
	inits  map[Container]*initProcess
	closed bool
}

// New probes the kernel and reads the daemon's own place. An error means that
// no caller could be identified here, and says why.
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
	id := &Identifier{proc: -1, inits: map[Container]*initProcess{}, users: users{file: o.subUIDs}}
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

// Close gives back the descriptors. Callers that were identified must have
// been closed before.
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

// Identify returns who connected. A caller of whom there is the least doubt is
// refused with a *Refusal; the only other errors are the context's. The Caller
// must be closed.
func (id *Identifier) Identify(ctx context.Context, conn *net.UnixConn) (*Caller, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	peer, err := id.connector(conn)
	if err != nil {
		return nil, err
	}
	c := &Caller{PID: peer.pid, UID: peer.uid, GID: peer.gid, PIDFD: peer.exact, processWatch: id.watches.begin(peer.pid, peer.pidfd)}
	if err := id.attribute(ctx, c); err != nil {
		if ctx.Err() == nil {
			err = c.orEnded(err)
		}
		c.Close()
		return nil, err
	}
	c.processWatch = id.watches.share(c.processWatch)
	return c, nil
}

// attribute fills in to whom the process belongs.
func (id *Identifier) attribute(ctx context.Context, c *Caller) error {
	p, err := openProcess(id.proc, c.PID, c.pidfd)
	if err != nil {
		return unreadable(err)
	}
	defer p.closeDir()
	if c.cgroup, err = watchCgroup(p); err != nil {
		return unreadable(err)
	}
	hs, err := parseCgroup(c.cgroup.text)
	if err != nil {
		return refuse(err, "its cgroups make no sense from where cimad runs: it must run in the root cgroup namespace")
	}
	m, err := id.rule.match(ctx, hs)
	if err != nil {
		return err
	}
	if m.found {
		err = id.inContainer(ctx, c, p, m)
	} else {
		err = id.onHost(c, p, hs)
	}
	if err != nil {
		return err
	}
	if id.kernel.cgroup == "v2" && id.kernel.pidfdInfo && len(hs) == 1 {
		if err := c.cgroup.useID(c.pidfd, id.roots, hs[0]); err != nil {
			return unreadable(err)
		}
	}
	if err := c.alive(); err != nil { // after the last read
		return unreadable(err)
	}
	return nil
}

// inContainer holds what the cgroups say to the pid namespace, and to the
// record's own first process.
func (id *Identifier) inContainer(ctx context.Context, c *Caller, p process, m match) error {
	f, err := id.initProcess(ctx, m.container)
	if err != nil {
		return err
	}
	c.initProcess, c.Container = f, &m.container
	ns, err := p.pidNS()
	if err != nil {
		return unreadable(err)
	}
	inside := ns == f.ns
	// Every pid namespace lies below the host's: a container that shares
	// that one has no namespace that others could be below.
	if !inside && !m.container.HostPID {
		if inside, err = p.below(f.ns); err != nil {
			return unreadable(err)
		}
	}
	if !inside {
		return refuse(fmt.Errorf("pid %d is in the cgroup of %s, but in another pid namespace", c.PID, m.container.ID),
			"its cgroup is a container's, but its pid namespace is not that container's; leave the cgroups to the engine")
	}
	s, err := walk(f.root, m.container.CgroupPath)
	if err == nil && s.inode != f.instance {
		err = fmt.Errorf("cgroup %q: %w", m.container.CgroupPath, errSwapped)
	}
	if err != nil {
		return refuse(err, "its container's cgroup was removed or replaced; restart the container")
	}
	c.Instance, c.CgroupOwner = s.inode, s.owner
	c.path, c.instance = m.container.CgroupPath, s.inode
	return nil
}

// onHost makes sure that a caller in no container's cgroup is in no container.
func (id *Identifier) onHost(c *Caller, p process, hs []hierarchy) error {
	pids, err := p.pids()
	if err != nil {
		return unreadable(err)
	}
	if pids != 1 {
		return refuse(fmt.Errorf("pid %d has pids in %d namespaces", c.PID, pids),
			"it is in a pid namespace of its own, but in no container's cgroup (%d NSpid entries); start the container by an engine that cimad knows, with cgroups enabled", pids)
	}
	ns, err := p.pidNS()
	if err != nil {
		return unreadable(err)
	}
	if ns != id.ownNS {
		return refuse(nil, "it is in no container's cgroup, and its pid namespace is not the host's; start the container with cgroups enabled")
	}
	// A container with the host's pid namespace and no cgroup of its own
	// (podman's --cgroups=disabled) still has a root directory of its own.
	root, err := p.rootDir()
	if err != nil {
		return unreadable(err)
	}
	if root != id.ownRoot {
		return refuse(fmt.Errorf("pid %d has another root directory", c.PID),
			"it is in no container's cgroup, but its root directory is not the host's; start the container with cgroups enabled, or the service without a root directory of its own")
	}
	c.Unit, c.User = unitOf(hs), id.users.of(c.UID, systemdPath(hs))
	return nil
}

// matchProcess applies the rule to a process.
func (id *Identifier) matchProcess(ctx context.Context, p process) (match, error) {
	text, err := p.read("cgroup")
	if err != nil {
		return match{}, err
	}
	hs, err := parseCgroup(text)
	if err != nil {
		return match{}, err
	}
	return id.rule.match(ctx, hs)
}

// unreadable refuses a caller whose process could not be looked at.
func unreadable(err error) error {
	switch {
	case errors.Is(err, procfs.ErrEnded):
		return refuse(err, "the process that connected has ended; the connection must belong to a living process")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return refuse(err, "its process may not be looked at; cimad needs CAP_SYS_PTRACE and must not be in a landlock domain")
	default:
		return refuse(err, "its process could not be looked at; see the journal of cimad")
	}
}
