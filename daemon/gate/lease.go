package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lease is a read lease on the file of a held process.
type lease struct {
	gate *gate
	fd   int
	id   fileID
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
		return &lease{gate: m.gate, fd: h.FD, id: id}, nil
	}
	<-m.gate.leases
	if errors.Is(err, unix.EAGAIN) {
		return nil, ErrWritable
	}
	return nil, fmt.Errorf("read lease: %w", err)
}

// end gives the lease back; the descriptor is still open.
func (l *lease) end() {
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
		wait := 100 * time.Microsecond
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
