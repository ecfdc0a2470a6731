package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// event is a struct fanotify_event_metadata with its pidfd (fanotify(7)).
type event struct {
	mask           uint64
	fd, pid, pidfd int // a descriptor is -1 if the kernel gave none
}

const (
	metadataLen   = 24
	infoHeaderLen = 4
)

// parse reads one event in the machine's byte order, and returns the bytes after it.
func parse(b []byte) (event, []byte, error) {
	order := binary.NativeEndian
	if len(b) < metadataLen {
		return event{}, nil, errors.New("fanotify: an event is cut off")
	}
	whole, fixed := int(order.Uint32(b)), int(order.Uint16(b[6:]))
	if whole < fixed || whole > len(b) || fixed < metadataLen {
		return event{}, nil, fmt.Errorf("fanotify: an event of %d bytes with %d fixed bytes, in %d bytes", whole, fixed, len(b))
	}
	if v := b[4]; v != unix.FANOTIFY_METADATA_VERSION {
		return event{}, nil, fmt.Errorf("fanotify: the kernel's version is %d, must be %d", v, unix.FANOTIFY_METADATA_VERSION)
	}
	e := event{
		mask: order.Uint64(b[8:]), pidfd: -1,
		fd: int(int32(order.Uint32(b[16:]))), pid: int(int32(order.Uint32(b[20:]))),
	}
	for info := b[fixed:whole]; len(info) > 0; {
		if len(info) < infoHeaderLen {
			return event{}, nil, errors.New("fanotify: a record of an event is cut off")
		}
		n := int(order.Uint16(info[2:]))
		if n < infoHeaderLen || n > len(info) {
			return event{}, nil, fmt.Errorf("fanotify: a record of %d bytes, in %d bytes", n, len(info))
		}
		if info[0] == unix.FAN_EVENT_INFO_TYPE_PIDFD && n >= infoHeaderLen+4 {
			// FAN_NOPIDFD and FAN_EPIDFD are below zero too.
			e.pidfd = max(int(int32(order.Uint32(info[infoHeaderLen:]))), -1)
		}
		info = info[n:]
	}
	return e, b[whole:], nil
}

// batch is how many bytes one read takes. An event has 32 bytes, and the kernel opens
// two descriptors for each event that it writes.
const batch = 64 * 32

// read reads events until the gate is closed. Nothing in it may wait, except for
// the kernel.
func (g *gate) read(group, ended int) {
	buf := make([]byte, batch)
	polls := []unix.PollFd{{Fd: int32(group), Events: unix.POLLIN}, {Fd: int32(ended), Events: unix.POLLIN}}
	for {
		unix.Poll(polls, -1)
		if polls[1].Revents != 0 {
			return
		}
		n, err := unix.Read(group, buf)
		switch {
		case err == unix.EAGAIN, err == unix.EINTR:
			continue // a signal, or the guard read the event
		case err == unix.EMFILE, err == unix.ENFILE:
			// The kernel has refused the process, as it could not open its file.
			g.report(nil, err)
			time.Sleep(time.Millisecond)
			continue
		case err != nil:
			g.report(nil, err) // of one event: its file can't be opened
			continue
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e event
			if e, rest, err = parse(rest); err != nil {
				g.report(nil, err)
				break
			}
			g.accept(e)
		}
	}
}

// respond writes a struct fanotify_response. ENOENT means that the process is not
// held any more.
func respond(group *os.File, fd int, allow bool) error {
	var b [8]byte
	answer := uint32(unix.FAN_DENY)
	if allow {
		answer = unix.FAN_ALLOW
	}
	binary.NativeEndian.PutUint32(b[0:], uint32(fd))
	binary.NativeEndian.PutUint32(b[4:], answer)
	_, err := group.Write(b[:])
	return err
}
