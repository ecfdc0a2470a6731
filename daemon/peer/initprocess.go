package peer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// maxInits is the most first processes in the cache. Each takes a descriptor.
const maxInits = 1024

// initProcess is a process that was proved to be a container's first process. As
// long as it lives, its pid namespace stays the same, and no other namespace can have
// that inode number. So one poll renews the proof.
type initProcess struct {
	pidfd       int
	ns          procfs.FileID
	root        int    // root directory of the hierarchy with the container's cgroup
	path        string // of that cgroup, there
	cgroupInode uint64 // its inode
	unified     bool   // the hierarchy is cgroup v2's
	refs        atomic.Int32
}

// release gives back one reference.
func (f *initProcess) release() {
	if f.refs.Add(-1) == 0 {
		unix.Close(f.pidfd)
	}
}

// initProcess returns the container's living first process, with a reference that
// the caller releases.
func (id *Identifier) initProcess(ctx context.Context, c Container) (*initProcess, error) {
	if f := id.cachedInit(c); f != nil {
		return f, nil
	}
	f, err := id.proveInit(ctx, c)
	if err != nil {
		return nil, err
	}
	id.cacheInit(c, f)
	return f, nil
}

// cachedInit returns the first process of exactly this record, if it still lives.
func (id *Identifier) cachedInit(c Container) *initProcess {
	id.mu.Lock()
	defer id.mu.Unlock()
	f := id.inits[c]
	if f == nil || procfs.Alive(f.pidfd) != nil {
		return nil
	}
	f.refs.Add(1)
	return f
}

// cacheInit stores a first process, and evicts those that have ended. It is called
// once for each container, so that a look at all of them is cheap enough.
func (id *Identifier) cacheInit(c Container, f *initProcess) {
	id.mu.Lock()
	defer id.mu.Unlock()
	for key, old := range id.inits {
		if key == c || procfs.Alive(old.pidfd) != nil {
			delete(id.inits, key)
			old.release()
		}
	}
	if len(id.inits) < maxInits && !id.closed {
		f.refs.Add(1)
		id.inits[c] = f
	}
}

// proveInit checks the record's first process against the kernel: it must live, have
// the start time of the record, and be in the cgroup that the record declares.
func (id *Identifier) proveInit(ctx context.Context, c Container) (*initProcess, error) {
	if c.InitPID <= 0 {
		return nil, refuse(fmt.Errorf("container %s: no record of its first process", c.ID),
			"its container is not recorded as started; try again")
	}
	pidfd, err := unix.PidfdOpen(c.InitPID, 0)
	if err != nil {
		return nil, wrongInit(c, fmt.Errorf("pidfd_open: %w", ended(err)))
	}
	f := &initProcess{pidfd: pidfd}
	f.refs.Store(1)
	if err := id.readInit(ctx, c, f); err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// readInit reads the process into f, and checks it.
func (id *Identifier) readInit(ctx context.Context, c Container, f *initProcess) error {
	p, err := openProcess(id.proc, c.InitPID, f.pidfd)
	if err != nil {
		return wrongInit(c, err)
	}
	defer p.closeDir()
	if c.InitStart != 0 {
		ticks, err := p.started()
		if err == nil && ticks != c.InitStart {
			err = fmt.Errorf("started at tick %d, must be %d as the record says", ticks, c.InitStart)
		}
		if err != nil {
			return wrongInit(c, err)
		}
	}
	m, err := id.matchProcess(ctx, p)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return wrongInit(c, err)
	}
	if !m.found || !m.container.same(c) {
		return wrongInit(c, fmt.Errorf("its cgroups must be those of the container"))
	}
	if f.ns, err = p.pidNS(); err != nil {
		return wrongInit(c, err)
	}
	if c.HostPID != (f.ns == id.ownNS) {
		return wrongInit(c, fmt.Errorf("the record says that it has the host's pid namespace: %t; the kernel says the opposite", c.HostPID))
	}
	if f.root, err = id.roots.root(m.in); err != nil {
		return wrongInit(c, err)
	}
	s, err := walk(f.root, m.container.CgroupPath)
	if err != nil {
		return wrongInit(c, err)
	}
	f.unified = m.in.controllers == ""
	f.path, f.cgroupInode = m.container.CgroupPath, s.inode
	if err := procfs.Alive(f.pidfd); err != nil {
		return wrongInit(c, err)
	}
	return nil
}

// wrongInit refuses a caller whose container's first process differs from the
// record. The caller does not get the text of err, which is about the first process.
func wrongInit(c Container, err error) error {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return refuse(fmt.Errorf("container %s, first process %d: %w", c.ID, c.InitPID, err),
			"its container's first process may not be looked at; cimad needs CAP_SYS_PTRACE and must not be in a landlock domain")
	}
	return refuse(fmt.Errorf("container %s, first process %d: %w", c.ID, c.InitPID, err),
		"its container's first process is not the one on record; if the container is starting or stopping, try again")
}
