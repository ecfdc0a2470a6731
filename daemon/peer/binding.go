package peer

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// A binding is what Check holds a process to. All connections of a process have
// one together: a look at the process is good for every request that was there
// before the look began, whichever connection it came on.
type binding struct {
	all    *bindings
	pid    int
	pidfd  int
	cgroup watch

	first    *first // nil for the host
	path     string // of the container's cgroup
	instance uint64 // inode there

	users atomic.Int32  // connections; changed under bindings.mu
	looks atomic.Uint64 // begun; raised under mu
	stale atomic.Bool   // failed is set: new connections get another

	mu     sync.Mutex
	failed error // a process that changed once stays refused
	closed bool
}

// bindings are those of all processes that have connections.
type bindings struct {
	mu    sync.Mutex
	byPID map[int]*binding
}

// bind begins a binding for one connection. The pidfd is the binding's now.
func (all *bindings) bind(pid, pidfd int) *binding {
	b := &binding{all: all, pid: pid, pidfd: pidfd, cgroup: watch{fd: -1}}
	b.users.Store(1)
	return b
}

// share returns the binding that other connections of the same process have, in
// place of b, or keeps b for those to come.
func (all *bindings) share(b *binding) *binding {
	all.mu.Lock()
	old := all.byPID[b.pid]
	if old == nil || !old.same(b) {
		if all.byPID == nil {
			all.byPID = make(map[int]*binding)
		}
		all.byPID[b.pid] = b
		all.mu.Unlock()
		return b
	}
	old.users.Add(1)
	all.mu.Unlock()
	b.close()
	return old
}

// same reports whether b, which was just found to live, is of the same process
// in the same place. Both had the same pid, and b's process lived after old's
// descriptor was made: as old's lives now, they are one.
func (old *binding) same(b *binding) bool {
	return !old.stale.Load() && old.first == b.first && old.path == b.path && old.instance == b.instance &&
		old.cgroup.same(&b.cgroup) && procfs.Alive(old.pidfd) == nil
}

// leave ends a connection's use.
func (b *binding) leave() {
	b.all.mu.Lock()
	last := b.users.Add(-1) == 0
	if last && b.all.byPID[b.pid] == b {
		delete(b.all.byPID, b.pid)
	}
	b.all.mu.Unlock()
	if last {
		b.close()
	}
}

func (b *binding) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	unix.Close(b.pidfd)
	b.cgroup.close()
	if b.first != nil {
		b.first.release()
	}
}

// renew looks at the process, or waits for a look that began after this call.
func (b *binding) renew() error {
	before := b.looks.Load()
	if b.users.Load() > 1 {
		runtime.Gosched() // others read their requests meanwhile: one look for all
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return refuse(errClosed, "its connection is closed")
	}
	if b.looks.Load() == before && b.failed == nil {
		b.looks.Add(1)
		if b.failed = b.orEnded(b.look()); b.failed != nil {
			b.stale.Store(true)
		}
	}
	return b.failed
}

// orEnded makes plain why a process that has ended was refused: what it left
// behind reads like a process that moved.
func (b *binding) orEnded(err error) error {
	if err == nil {
		return nil
	}
	if end := procfs.Alive(b.pidfd); end != nil {
		return unreadable(end)
	}
	return err
}

func (b *binding) look() error {
	if err := b.cgroup.unchanged(b.pidfd); err != nil {
		if errors.Is(err, errMoved) {
			return refuse(fmt.Errorf("pid %d: %w", b.pid, err), "its cgroups changed after it connected; connect again")
		}
		return unreadable(err)
	}
	if b.first != nil {
		if err := same(b.first.root, b.path, b.instance); err != nil {
			return refuse(err, "its container's cgroup was removed or replaced; connect again")
		}
	}
	if err := b.alive(); err != nil { // after the last read
		return unreadable(err)
	}
	return nil
}

func (b *binding) alive() error {
	if b.first == nil {
		return procfs.Alive(b.pidfd)
	}
	return procfs.Alive(b.pidfd, b.first.pidfd)
}
