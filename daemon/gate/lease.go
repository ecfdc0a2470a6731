package gate

import (
	"context"
	"errors"
	"fmt"
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

// stands says that nobody asked to write since the leases were taken: a lease
// that was lost doesn't come back.
func (l *lease) stands() bool {
	return leased(l.fd) && (l.upper < 0 || leased(l.upper))
}

func leased(fd int) bool {
	kind, err := unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0)
	return err == nil && kind == unix.F_RDLCK
}
