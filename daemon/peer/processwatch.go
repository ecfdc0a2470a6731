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

// processWatch is what Caller.Check compares a process with. All connections of a
// process share one: an inspection counts for each request that came before it
// began, on any connection.
type processWatch struct {
	watches *processWatches
	pid     int
	pidfd   int
	cgroup  cgroupWatch

	initProcess *initProcess // the container's; nil for the host
	path        string       // of the container's cgroup
	cgroupInode uint64       // inode of that cgroup

	users       atomic.Int32  // connections; changed under processWatches.mu
	inspections atomic.Uint64 // how many began; raised under mu
	stale       atomic.Bool   // failed is set: new connections get another watch

	mu     sync.Mutex
	failed error // a process that has changed once stays refused
	closed bool
}

// processWatches are the watches of all processes that have connections.
type processWatches struct {
	mu    sync.Mutex
	byPID map[int]*processWatch
}

// begin returns a watch for one connection. The watch owns the pidfd.
func (all *processWatches) begin(pid, pidfd int) *processWatch {
	w := &processWatch{watches: all, pid: pid, pidfd: pidfd, cgroup: cgroupWatch{fd: -1}}
	w.users.Store(1)
	return w
}

// share returns the watch of other connections of the same process in place of w,
// or stores w for later connections.
func (all *processWatches) share(w *processWatch) *processWatch {
	all.mu.Lock()
	old := all.byPID[w.pid]
	if old == nil || !old.same(w) {
		if all.byPID == nil {
			all.byPID = make(map[int]*processWatch)
		}
		all.byPID[w.pid] = w
		all.mu.Unlock()
		return w
	}
	old.users.Add(1)
	all.mu.Unlock()
	w.close()
	return old
}

// same reports whether w, whose process was just seen to live, is of old's process at
// the same place. Both have the same pid. w's process lived after old's descriptor
// was made, and old's process still lives, so they are one process.
func (old *processWatch) same(w *processWatch) bool {
	return !old.stale.Load() && old.initProcess == w.initProcess && old.path == w.path && old.cgroupInode == w.cgroupInode &&
		old.cgroup.same(&w.cgroup) && procfs.Alive(old.pidfd) == nil
}

// release gives back the use of one connection.
func (w *processWatch) release() {
	w.watches.mu.Lock()
	last := w.users.Add(-1) == 0
	if last && w.watches.byPID[w.pid] == w {
		delete(w.watches.byPID, w.pid)
	}
	w.watches.mu.Unlock()
	if last {
		w.close()
	}
}

func (w *processWatch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	unix.Close(w.pidfd)
	w.cgroup.close()
	if w.initProcess != nil {
		w.initProcess.release()
	}
}

// check inspects the process, or waits for an inspection that began after this call.
func (w *processWatch) check() error {
	before := w.inspections.Load()
	if w.users.Load() > 1 {
		runtime.Gosched() // other connections read their requests: one inspection for all
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return refuse(errClosed, "its connection is closed")
	}
	if w.inspections.Load() == before && w.failed == nil {
		w.inspections.Add(1)
		if w.failed = w.orEnded(w.inspect()); w.failed != nil {
			w.stale.Store(true)
		}
	}
	return w.failed
}

// orEnded replaces the error of a process that has ended: without it the error says
// that the process moved.
func (w *processWatch) orEnded(err error) error {
	if err == nil {
		return nil
	}
	if end := procfs.Alive(w.pidfd); end != nil {
		return unreadable(end)
	}
	return err
}

// inspect compares the process with what it was.
func (w *processWatch) inspect() error {
	if err := w.cgroup.unchanged(w.pidfd); err != nil {
		if errors.Is(err, errMoved) {
			return refuse(fmt.Errorf("pid %d: %w", w.pid, err), "its cgroups changed after it connected; connect again")
		}
		return unreadable(err)
	}
	if w.initProcess != nil {
		if err := same(w.initProcess.root, w.path, w.cgroupInode); err != nil {
			return refuse(err, "its container's cgroup was removed or replaced; connect again")
		}
	}
	if err := w.alive(); err != nil { // after the last read
		return unreadable(err)
	}
	return nil
}

// alive checks that the process and the container's first process live.
func (w *processWatch) alive() error {
	if w.initProcess == nil {
		return procfs.Alive(w.pidfd)
	}
	return procfs.Alive(w.pidfd, w.initProcess.pidfd)
}
