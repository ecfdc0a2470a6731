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
	gate  *gate
	fd    int
	upper int // -1: none
	id    fileID
}

const (
	// maxLeases bounds those kept while execs go through.
	maxLeases = 512

	// keepLease is how long one is kept for an exec that doesn't show: it
	// failed, or the file is a script, whose interpreter shows instead.
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
	select {
	case m.gate.leases <- struct{}{}:
	case <-ctx.Done():
		return nil, ErrDeadline
	}
	_, err = unix.FcntlInt(uintptr(h.FD), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		return &lease{gate: m.gate, fd: h.FD, upper: -1, id: id}, nil
	}
	<-m.gate.leases
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
	<-l.gate.leases
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
	g.waiting.Go(func() {
		defer g.release(h)
		wait := time.Millisecond // a writer has time
		for end := time.Now().Add(keepLease); time.Now().Before(end) && alive(h.PIDFD) && !h.running(); {
			time.Sleep(wait)
			wait = min(2*wait, 10*time.Millisecond)
		}
	})
}

// running says that the process runs the file by now.
func (h *Held) running() bool {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", h.PID), &st); err != nil {
		return errors.Is(err, os.ErrNotExist) // gone
	}
	return st.Dev == h.lease.id.dev && st.Ino == h.lease.id.ino
}
