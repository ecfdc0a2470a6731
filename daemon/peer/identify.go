package peer

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Identify returns the process that connected. It refuses a caller with the least
// doubt: the error wraps ErrUnattributed, or is the context's. The Caller must be
// closed.
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

// IdentifyProcess applies the rules of Identify to a process with a pidfd from the
// kernel, such as fanotify's; pid is its number in the daemon's pid namespace. The
// caller closes the pidfd and the Caller. UID of the Caller is the effective uid now, and
// GID is not set; neither is for a process in a container.
func (id *Identifier) IdentifyProcess(ctx context.Context, pid, pidfd int) (*Caller, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	own, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, unreadable(fmt.Errorf("pidfd of process %d: %w", pid, procfs.ErrEnded))
	}
	c := &Caller{PID: pid, PIDFD: true, processWatch: id.watches.begin(pid, own)}
	c.byNumber = true
	if err := id.attribute(ctx, c); err != nil {
		if ctx.Err() == nil {
			err = c.orEnded(err)
		}
		c.Close()
		return nil, err
	}
	return c, nil
}

// attribute finds out which container or unit the process belongs to.
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
	c.Payer = id.users.payer(c)
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

// inContainer checks the container that the cgroups name against the pid namespace
// and the first process.
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
	// All pid namespaces are below the host's: to be below the namespace of a
	// container that has the host's proves nothing.
	if !inside && !m.container.HostPID {
		if inside, err = p.below(f.ns); err != nil {
			return unreadable(err)
		}
	}
	if !inside {
		return refuse(fmt.Errorf("pid %d is in the cgroup of %s, but in another pid namespace", c.PID, m.container.Name),
			"its cgroup is a container's, but its pid namespace is not that container's; leave the cgroups to the engine")
	}
	s, err := walk(f.root, f.path)
	if err == nil && s.inode != f.cgroupInode {
		err = fmt.Errorf("cgroup %q: %w", f.path, errSwapped)
	}
	if err != nil {
		return refuse(err, "its container's cgroup was removed or replaced; restart the container")
	}
	c.CgroupInode, c.CgroupOwner = s.inode, s.chargedTo(f.unified)
	c.path, c.cgroupInode = f.path, s.inode
	id.origins.learn(f.path)
	return nil
}

// onHost checks that a caller in no container's cgroup is in no container.
func (id *Identifier) onHost(c *Caller, p process, hs []hierarchy) error {
	status, err := p.read("status")
	if err != nil {
		return unreadable(err)
	}
	pids, err := countNSpid(status)
	if err != nil {
		return unreadable(err)
	}
	if c.byNumber {
		if c.UID, c.TwoUsers, err = uidsOf(status); err != nil {
			return unreadable(err)
		}
	}
	if pids != 1 {
		return refuse(fmt.Errorf("pid %d has pids in %d namespaces", c.PID, pids),
			"it is in a pid namespace of its own, but in no container's cgroup (%d NSpid entries); a process of the host must leave that namespace (unshare -p, a sandbox, PrivatePIDs=), and a container must be started by an engine that cimad knows, with cgroups enabled", pids)
	}
	ns, err := p.pidNS()
	if err != nil {
		return unreadable(err)
	}
	if ns != id.ownNS {
		return refuse(nil, "it is in no container's cgroup, and its pid namespace is not the host's; start the container with cgroups enabled")
	}
	// A container without a cgroup that has the host's pid namespace (podman's
	// --cgroups=disabled) still has a root directory of its own.
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

// matchProcess returns the container that the cgroups of a process name.
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

// unreadable refuses a caller whose process could not be read.
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
