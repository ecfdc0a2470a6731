package gate

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// leaseKeeper keeps leases until the execs that were allowed are through. From there
// on the kernel itself keeps writers away (ETXTBSY); up to there a writer would
// slip in between what was hashed and what runs.
type leaseKeeper struct {
	mu       sync.Mutex
	held     map[*HeldExec]time.Time // until when
	scripts  map[int]*HeldExec       // of these, by pid
	shared   map[fileID]*sharedLease
	sharedOn map[uint64]int // of those that stand, by device
	ended    bool
}

func newLeaseKeeper() leaseKeeper {
	return leaseKeeper{
		held: make(map[*HeldExec]time.Time), scripts: make(map[int]*HeldExec),
		shared: make(map[fileID]*sharedLease), sharedOn: make(map[uint64]int),
	}
}

// sweepInterval is how often it is looked whether execs are through: a writer has
// time, and one look for many costs less than one for each.
const sweepInterval = 4 * time.Millisecond

// holdLease keeps the lease of a process that is answered for.
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
	k.held[h] = time.Now().Add(leaseTime)
	script := h.isScript()
	if script {
		k.scripts[h.PID] = h
	}
	k.share(h, script)
}

// sweepLeases releases those that are through, and says how many are left.
func (g *gate) sweepLeases() int {
	k := &g.leases
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for h, until := range k.held {
		if now.Before(until) && procfs.Alive(h.PIDFD) == nil && !h.execDone && !h.lease.id.runsIn(h.PID) {
			continue
		}
		delete(k.held, h)
		if k.scripts[h.PID] == h {
			delete(k.scripts, h.PID)
		}
		g.release(h)
	}
	for id, s := range k.shared {
		if !s.expired(now, k.ended) {
			continue
		}
		delete(k.shared, id)
		if k.sharedOn[id.dev]--; k.sharedOn[id.dev] == 0 {
			delete(k.sharedOn, id.dev)
		}
		g.release(s.owner)
	}
	return len(k.held) + len(k.shared)
}

// noteExec notes that a process executes something: if it is the interpreter of a
// script, the kernel has read the script's first line by now. Another thread
// may do so too: hence nothing but scripts count, of which no more is sure.
func (g *gate) noteExec(pid int) {
	k := &g.leases
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.scripts[pid]; h != nil {
		h.execDone = true
	}
}

// stop says that no more are answered for.
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

// runsIn says that a process runs the file by now, or is gone.
func (f fileID) runsIn(pid int) bool {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &st); err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	return st.Dev == f.dev && st.Ino == f.ino
}
