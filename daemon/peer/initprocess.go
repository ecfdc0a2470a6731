package peer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// maxInits bounds the first processes that are kept, one descriptor each.
const maxInits = 1024

// initProcess is a container's first process, once it was proved to be that. While
// it lives its pid namespace stays what it is and no other can have its
// number, so the proof need not be repeated: one poll renews it.
type initProcess struct {
	pidfd    int
	ns       procfs.FileID
	root     int    // of the hierarchy in which the container's cgroup is looked up
	instance uint64 // inode of that cgroup
	refs     atomic.Int32
}

// release gives one reference back.
func (f *initProcess) release() {
	if f.refs.Add(-1) == 0 {
		unix.Close(f.pidfd)
	}
}

// initProcess returns the container's living first process, with a reference for
// the caller of this function.
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

// cachedInit returns the first process of exactly this record if it still lives.
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

// cacheInit stores a first process, after those that ended were dropped. It is
// called once per container, so looking at all of them is cheap enough.
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

// proveInit holds the record's first process to the kernel: it lives, started
// when the record says, and is in the cgroup that the record declares.
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

func (id *Identifier) readInit(ctx context.Context, c Container, f *initProcess) error {
	p, err := openProcess(id.proc, c.InitPID, f.pidfd)
	if err != nil {
		return wrongInit(c, err)
	}
	defer p.closeDir()
	if c.InitStart != 0 {
		ticks, err := p.started()
		if err == nil && ticks != c.InitStart {
			err = fmt.Errorf("started at tick %d, the record says %d", ticks, c.InitStart)
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
		return wrongInit(c, fmt.Errorf("its cgroups are not those of the container"))
	}
	if f.ns, err = p.pidNS(); err != nil {
		return wrongInit(c, err)
	}
	if c.HostPID != (f.ns == id.ownNS) {
		return wrongInit(c, fmt.Errorf("the record says that the host's pid namespace is shared: %t, the kernel does not", c.HostPID))
	}
	if f.root, err = id.roots.root(m.in); err != nil {
		return wrongInit(c, err)
	}
	s, err := walk(f.root, c.CgroupPath)
	if err != nil {
		return wrongInit(c, err)
	}
	f.instance = s.inode
	if err := procfs.Alive(f.pidfd); err != nil {
		return wrongInit(c, err)
	}
	return nil
}

// wrongInit refuses a caller whose container's first process is not what the
// record says. It unwraps nothing of a Refusal in err: its words are about the
// first process and not for the caller.
func wrongInit(c Container, err error) error {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return refuse(fmt.Errorf("container %s, first process %d: %w", c.ID, c.InitPID, err),
			"its container's first process may not be looked at; cimad needs CAP_SYS_PTRACE and must not be in a landlock domain")
	}
	return refuse(fmt.Errorf("container %s, first process %d: %w", c.ID, c.InitPID, err),
		"its container's first process is not the one on record; if the container is starting or stopping, try again")
}
