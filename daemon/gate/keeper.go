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

// keeper keeps leases until the execs that were allowed are through. From there
// on the kernel itself keeps writers away (ETXTBSY); up to there a writer would
// slip in between what was hashed and what runs.
type keeper struct {
	mu       sync.Mutex
	kept     map[*Held]time.Time // until when
	scripts  map[int]*Held       // of these, by pid
	standing map[fileID]*standing
	shares   map[uint64]int // of those that stand, by device
	ended    bool
}

func newKeeper() keeper {
	return keeper{
		kept: make(map[*Held]time.Time), scripts: make(map[int]*Held),
		standing: make(map[fileID]*standing), shares: make(map[uint64]int),
	}
}

// lookAfter is how often it is looked whether execs are through: a writer has
// time, and one look for many costs less than one for each.
const lookAfter = 4 * time.Millisecond

// settle keeps the lease of a process that is answered for.
func (g *gate) settle(h *Held) {
	if h.lease == nil {
		return
	}
	h.users.Add(1)
	k := &g.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept)+len(k.standing) == 0 {
		g.waiting.Go(func() {
			for left := 1; left > 0; left = g.look() {
				time.Sleep(lookAfter)
			}
		})
	}
	k.kept[h] = time.Now().Add(keepLease)
	script := h.script()
	if script {
		k.scripts[h.PID] = h
	}
	k.stand(h, script)
}

// look releases those that are through, and says how many are left.
func (g *gate) look() int {
	k := &g.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for h, until := range k.kept {
		if now.Before(until) && procfs.Alive(h.PIDFD) == nil && !h.through && !h.lease.id.runsIn(h.PID) {
			continue
		}
		delete(k.kept, h)
		if k.scripts[h.PID] == h {
			delete(k.scripts, h.PID)
		}
		g.release(h)
	}
	for id, s := range k.standing {
		if !s.over(now, k.ended) {
			continue
		}
		delete(k.standing, id)
		if k.shares[id.dev]--; k.shares[id.dev] == 0 {
			delete(k.shares, id.dev)
		}
		g.release(s.held)
	}
	return len(k.kept) + len(k.standing)
}

// next notes that a process executes something: if it is the interpreter of a
// script, the kernel has read the script's first line by now. Another thread
// may do so too: hence nothing but scripts count, of which no more is sure.
func (g *gate) next(pid int) {
	k := &g.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.scripts[pid]; h != nil {
		h.through = true
	}
}

// end says that no more are answered for.
func (k *keeper) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
}

func (h *Held) script() bool {
	var b [2]byte
	n, err := unix.Pread(h.FD, b[:], 0)
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
