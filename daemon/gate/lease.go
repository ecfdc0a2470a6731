package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// settle keeps a lease until the exec that was allowed is through. From there
// on the kernel itself keeps writers away (ETXTBSY); up to there a writer
// would slip in between what was hashed and what runs.
func (g *gate) settle(h *Held) {
	if h.lease == nil {
		return
	}
	if h.running() {
		return
	}
	h.users.Add(1)
	if h.script() {
		g.kept.Store(h.PID, h)
	}
	g.waiting.Go(func() {
		defer g.release(h)
		defer g.kept.CompareAndDelete(h.PID, h)
		wait := time.Millisecond // a writer has time
		for end := time.Now().Add(keepLease); time.Now().Before(end) && alive(h.PIDFD) && !h.through.Load() && !h.running(); {
			time.Sleep(wait)
			wait = min(2*wait, 10*time.Millisecond)
		}
	})
}

// next notes that a process executes something: if it is the interpreter of a
// script, the kernel has read the script's first line by now. Another thread
// may do so too: hence nothing but scripts are kept, of which no more is sure.
func (g *gate) next(pid int) {
	if h, ok := g.kept.Load(pid); ok {
		h.(*Held).through.Store(true)
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
