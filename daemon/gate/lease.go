package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lease is a read lease on the file of a held process, and on the one behind
// it in an overlay's upper layer.
type lease struct {
	slots [2]chan struct{} // of its file system's, and of all
	fd    int
	upper int // -1: none
	id    fileID
}

const (
	// maxLeases bounds those kept while execs go through, shareOfLeases those
	// of one file system.
	maxLeases     = 512
	shareOfLeases = 64

	// keepLease is how long one is kept for an exec that doesn't show: it
	// failed, or the file is a script, whose interpreter may show instead.
	keepLease = 250 * time.Millisecond
)

// lease waits for a slot and takes a lease.
func (m *measurer) lease(ctx context.Context, h *Held) (*lease, error) {
	id, err := identify(h.FD)
	if err != nil {
		return nil, err
	}
	if id.size > m.maxSize {
		return nil, fmt.Errorf("%w: %d bytes, the bound is %d", ErrTooLarge, id.size, m.maxSize)
	}
	m.mu.Lock()
	at, marked := m.layers[id.dev]
	m.mu.Unlock()
	if !marked {
		return nil, ErrUnlocated
	}
	l := &lease{slots: [2]chan struct{}{at.leases, m.leases}, fd: h.FD, upper: -1, id: id}
	for i, slots := range l.slots {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			l.leave(i)
			return nil, ErrDeadline
		}
	}
	_, err = unix.FcntlInt(uintptr(h.FD), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		return l, nil
	}
	l.leave(len(l.slots))
	if errors.Is(err, unix.EAGAIN) {
		return nil, ErrWritable
	}
	return nil, fmt.Errorf("read lease: %w", err)
}

// also takes a lease on the file in the upper layer, and its descriptor.
func (l *lease) also(upper int) error {
	if l.upper >= 0 {
		unix.Close(upper)
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(upper), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		unix.Close(upper)
		if errors.Is(err, unix.EAGAIN) {
			return ErrWritable
		}
		return fmt.Errorf("read lease: %w", err)
	}
	l.upper = upper
	return nil
}

// end gives the leases back; the held process's descriptor is still open.
func (l *lease) end() {
	if l.upper >= 0 {
		unix.Close(l.upper) // its lease goes with it
	}
	unix.FcntlInt(uintptr(l.fd), unix.F_SETLEASE, unix.F_UNLCK)
	l.leave(len(l.slots))
}

// leave gives the first n slots back.
func (l *lease) leave(n int) {
	for _, slots := range l.slots[:n] {
		<-slots
	}
}

// keeper keeps leases until the execs that were allowed are through. From there
// on the kernel itself keeps writers away (ETXTBSY); up to there a writer would
// slip in between what was hashed and what runs.
type keeper struct {
	mu      sync.Mutex
	kept    map[*Held]time.Time // until when
	scripts map[int]*Held       // of these, by pid
}

// lookAfter is how often it is looked whether execs are through: a writer has
// time, and one look for many costs less than one for each.
const lookAfter = 4 * time.Millisecond

// settle keeps the lease of a process that was answered for.
func (g *gate) settle(h *Held) {
	if h.lease == nil {
		return
	}
	h.users.Add(1)
	k := &g.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) == 0 {
		g.waiting.Go(func() {
			for left := 1; left > 0; left = g.look() {
				time.Sleep(lookAfter)
			}
		})
	}
	k.kept[h] = time.Now().Add(keepLease)
	if h.script() {
		k.scripts[h.PID] = h
	}
}

// look releases those that are through, and says how many are left.
func (g *gate) look() int {
	k := &g.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	for h, until := range k.kept {
		if now.Before(until) && alive(h.PIDFD) && !h.through && !h.running() {
			continue
		}
		delete(k.kept, h)
		if k.scripts[h.PID] == h {
			delete(k.scripts, h.PID)
		}
		g.release(h)
	}
	return len(k.kept)
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

func (h *Held) script() bool {
	var b [2]byte
	n, err := unix.Pread(h.FD, b[:], 0)
	return err == nil && n == 2 && string(b[:]) == "#!"
}

// running says that the process runs the file by now.
func (h *Held) running() bool {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", h.PID), &st); err != nil {
		return errors.Is(err, os.ErrNotExist) // gone
	}
	return st.Dev == h.lease.id.dev && st.Ino == h.lease.id.ino
}
