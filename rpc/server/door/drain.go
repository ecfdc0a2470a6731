package door

import (
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// drain empties the kernel's queue while an origin floods it. A connection that is closed
// at once costs three system calls here: accept4, one for its origin, and close. In
// package net it would cost five, and the memory of a connection. A connect(2) costs its
// caller half as much again; but one container may connect on all processors at once, so
// several drain. One processor is left for callers that are connected.
func (d *Door) drain(ctx context.Context, l net.Listener) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(listening uintptr) {
		var all sync.WaitGroup
		for range min(maxDrains, runtime.GOMAXPROCS(0)-1) - 1 {
			all.Go(func() { d.drainRaw(ctx, listening) })
		}
		d.drainRaw(ctx, listening)
		all.Wait()
	})
}

// maxDrains is the most goroutines that empty the queue. More would wait for the locks of
// the listening socket, as the connections' own callers do.
const maxDrains = 4

func (d *Door) drainRaw(ctx context.Context, listening uintptr) {
	for ctx.Err() == nil {
		fd, err := acceptRaw(listening)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return // the queue is empty; or Accept meets the error, too
		}
		d.enterRaw(fd)
	}
}

// acceptRaw is accept4(2) without the peer's address, which would be allocated.
func acceptRaw(listening uintptr) (int, error) {
	fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, listening, 0, 0, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// enterRaw is enter for a socket that package net does not know.
func (d *Door) enterRaw(fd int) {
	origin, ok := d.Origin(fd)
	if ok && d.rates.allow(origin) {
		if nc, err := connection(fd); err == nil {
			d.queue(nc, origin)
			return
		}
		d.Refused()
		return
	}
	if ok && d.rates.mayAnswer() {
		if nc, err := connection(fd); err == nil {
			d.TurnAway(nc, TooFast)
			return
		}
		d.Refused()
		return
	}
	unix.Close(fd)
	d.Refused()
}

// connection makes a net.Conn of a socket, which it closes in any case.
func connection(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	return net.FileConn(f)
}
