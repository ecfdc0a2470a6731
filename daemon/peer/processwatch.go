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
type processWatch struct {
	watches *processWatches
	pid     int
	pidfd   int
	cgroup  cgroupWatch

	initProcess *initProcess // nil for the host
	path        string       // of the container's cgroup
	instance    uint64       // inode there

	users       atomic.Int32  // connections; changed under bindings.mu
	inspections atomic.Uint64 // begun; raised under mu
	stale       atomic.Bool   // failed is set: new connections get another

	mu     sync.Mutex
	failed error // a process that changed once stays refused
	closed bool
}

// processWatches are those of all processes that have connections.
type processWatches struct {
	mu    sync.Mutex
	byPID map[int]*processWatch
}

// begin begins a binding for one connection. The pidfd is the binding's now.
func (all *processWatches) begin(pid, pidfd int) *processWatch {
	b := &processWatch{watches: all, pid: pid, pidfd: pidfd, cgroup: cgroupWatch{fd: -1}}
	b.users.Store(1)
	return b
}

// share returns the binding that other connections of the same process have, in
// place of b, or keeps b for those to come.
func (all *processWatches) share(b *processWatch) *processWatch {
	all.mu.Lock()
	old := all.byPID[b.pid]
	if old == nil || !old.same(b) {
		if all.byPID == nil {
			all.byPID = make(map[int]*processWatch)
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
func (old *processWatch) same(b *processWatch) bool {
	return !old.stale.Load() && old.initProcess == b.initProcess && old.path == b.path && old.instance == b.instance &&
		old.cgroup.same(&b.cgroup) && procfs.Alive(old.pidfd) == nil
}

// release ends a connection's use.
func (b *processWatch) release() {
	b.watches.mu.Lock()
	last := b.users.Add(-1) == 0
	if last && b.watches.byPID[b.pid] == b {
		delete(b.watches.byPID, b.pid)
	}
	b.watches.mu.Unlock()
	if last {
		b.close()
	}
}

func (b *processWatch) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	unix.Close(b.pidfd)
	b.cgroup.close()
	if b.initProcess != nil {
		b.initProcess.release()
	}
}

// check looks at the process, or waits for a look that began after this call.
func (b *processWatch) check() error {
	before := b.inspections.Load()
	if b.users.Load() > 1 {
		runtime.Gosched() // others read their requests meanwhile: one look for all
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return refuse(errClosed, "its connection is closed")
	}
	if b.inspections.Load() == before && b.failed == nil {
		b.inspections.Add(1)
		if b.failed = b.orEnded(b.inspect()); b.failed != nil {
			b.stale.Store(true)
		}
	}
	return b.failed
}

// orEnded makes plain why a process that has ended was refused: what it left
// behind reads like a process that moved.
func (b *processWatch) orEnded(err error) error {
	if err == nil {
		return nil
	}
	if end := procfs.Alive(b.pidfd); end != nil {
		return unreadable(end)
	}
	return err
}

func (b *processWatch) inspect() error {
	if err := b.cgroup.unchanged(b.pidfd); err != nil {
		if errors.Is(err, errMoved) {
			return refuse(fmt.Errorf("pid %d: %w", b.pid, err), "its cgroups changed after it connected; connect again")
		}
		return unreadable(err)
	}
	if b.initProcess != nil {
		if err := same(b.initProcess.root, b.path, b.instance); err != nil {
			return refuse(err, "its container's cgroup was removed or replaced; connect again")
		}
	}
	if err := b.alive(); err != nil { // after the last read
		return unreadable(err)
	}
	return nil
}

func (b *processWatch) alive() error {
	if b.initProcess == nil {
		return procfs.Alive(b.pidfd)
	}
	return procfs.Alive(b.pidfd, b.initProcess.pidfd)
}
