package gate

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/overlay"
	"github.com/cima-project/cima/daemon/procfs"
)

// leaseKeeper keeps a lease until the exec that was allowed is done. From then on
// the kernel itself keeps writers away (ETXTBSY); without the lease a writer could
// change the file after it was hashed and before it runs.
type leaseKeeper struct {
	mu       sync.Mutex
	time     time.Duration           // leaseTime, except in tests
	held     map[*HeldExec]time.Time // each until this time
	scripts  map[int]*HeldExec       // of held, by pid
	shared   map[overlay.File]*sharedLease
	sharedOn map[uint64]int // number of shared leases, by device
	ended    bool
}

func newLeaseKeeper() leaseKeeper {
	return leaseKeeper{
		time: leaseTime, held: make(map[*HeldExec]time.Time), scripts: make(map[int]*HeldExec),
		shared: make(map[overlay.File]*sharedLease), sharedOn: make(map[uint64]int),
	}
}

// sweepInterval is the time between two sweeps for execs that are done. One sweep
// for many execs costs less than one for each, and a writer can wait that long.
const sweepInterval = 4 * time.Millisecond

// holdLease keeps the lease of a process that is about to be allowed.
func (g *gate) holdLease(h *HeldExec) {
	if h.lease == nil {
		return
	}
	h.users.Add(1)
	k := &g.leases
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held)+len(k.shared) == 0 {
		g.waiting.Go(func() {
			for left := 1; left > 0; left = g.sweepLeases() {
				time.Sleep(sweepInterval)
			}
		})
	}
	k.held[h] = time.Now().Add(k.time)
	script := h.isScript()
	if script {
		k.scripts[h.PID] = h
	}
	k.share(h, script)
}

// sweepLeases releases the leases of execs that are done, and returns how many
// leases are left.
func (g *gate) sweepLeases() int {
	k := &g.leases
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for h, until := range k.held {
		if now.Before(until) && procfs.Alive(h.PIDFD) == nil && !h.execDone && !runsIn(h.lease.id, h.PID) {
			continue
		}
		delete(k.held, h)
		if k.scripts[h.PID] == h {
			delete(k.scripts, h.PID)
		}
		g.release(h)
	}
	for id, s := range k.shared {
		if !s.expired(now, k.time, k.ended) {
			continue
		}
		delete(k.shared, id)
		if k.sharedOn[id.Device]--; k.sharedOn[id.Device] == 0 {
			delete(k.sharedOn, id.Device)
		}
		g.release(s.owner)
	}
	return len(k.held) + len(k.shared)
}

// noteExec notes that a process executes a file. If the file is the interpreter of
// a script, the kernel has read the script's first line by now, and the script's
// lease can end. Another thread of the process may be the one that executes: so
// noteExec ends leases of scripts only, for which nothing surer shows.
func (g *gate) noteExec(pid int) {
	k := &g.leases
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.scripts[pid]; h != nil {
		h.execDone = true
	}
}

// stop says that holdLease is not called any more.
func (k *leaseKeeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
}

func (h *HeldExec) isScript() bool {
	var b [2]byte
	n, err := unix.Pread(h.fd, b[:], 0)
	return err == nil && n == 2 && string(b[:]) == "#!"
}

// runsIn reports whether a process runs the file by now, or has ended.
func runsIn(f overlay.File, pid int) bool {
	runs, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	return runs == procfs.FileID{Device: f.Device, Inode: f.Inode}
}
