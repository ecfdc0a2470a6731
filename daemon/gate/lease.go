package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/overlay"
)

// lease is a read lease on the file of a held process, and on the same file in the
// overlay's upper layer.
type lease struct {
	slots [2]chan struct{} // one of its file system's, one of all
	fd    int
	upper int // the file in the upper layer; -1: none
	id    overlay.File
}

const (
	// maxLeases bounds all leases, maxLeasesOn those on one file system.
	maxLeases   = 512
	maxLeasesOn = 64

	// leaseTime bounds how long a lease is kept for an exec that does not show:
	// the exec failed, or the file is a script, and its interpreter shows.
	leaseTime = 250 * time.Millisecond
)

// lease waits for the slots, and takes a lease.
func (m *measurer) lease(ctx context.Context, h *HeldExec) (*lease, error) {
	id, err := overlay.Identify(h.fd)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	at, marked := m.layers[id.Device]
	m.mu.Unlock()
	if !marked {
		return nil, overlay.ErrUnlocated
	}
	l := &lease{slots: [2]chan struct{}{at.leases, m.leases}, fd: h.fd, upper: -1, id: id}
	for i, slots := range l.slots {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			l.releaseSlots(i)
			return nil, ErrDeadline
		}
	}
	_, err = unix.FcntlInt(uintptr(h.fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		return l, nil
	}
	l.releaseSlots(len(l.slots))
	if errors.Is(err, unix.EAGAIN) {
		return nil, ErrWritable
	}
	return nil, fmt.Errorf("read lease: %w", err)
}

// addUpper takes a lease on the file in the upper layer. l owns the descriptor.
func (l *lease) addUpper(upper int) error {
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

// release ends the leases. The held process's descriptor is still open.
func (l *lease) release() {
	if l.upper >= 0 {
		unix.Close(l.upper) // its lease goes with it
	}
	unix.FcntlInt(uintptr(l.fd), unix.F_SETLEASE, unix.F_UNLCK)
	l.releaseSlots(len(l.slots))
}

// releaseSlots gives back the first n slots.
func (l *lease) releaseSlots(n int) {
	for _, slots := range l.slots[:n] {
		<-slots
	}
}

// intact reports whether no program has asked to write the file since the leases
// were taken: a lease that was broken does not come back.
func (l *lease) intact() bool {
	return leased(l.fd) && (l.upper < 0 || leased(l.upper))
}

func leased(fd int) bool {
	kind, err := unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0)
	return err == nil && kind == unix.F_RDLCK
}
