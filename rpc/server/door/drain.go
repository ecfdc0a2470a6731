package door

import (
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drain empties the kernel's queue while an origin floods it, and for a second more. A
// connection that is closed at once costs three system calls here: accept4, one for its
// origin, and close. In package net it would cost five, and the memory of a connection. A
// connect(2) costs its caller half as much again; but one container may connect on all
// processors at once, so several drain. One of the goroutines that may run at once is left for
// callers that are connected.
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
		f := flood{begun: time.Now()}
		for range min(maxDrains, runtime.GOMAXPROCS(0)-1) - 1 {
			all.Go(func() { d.drainRaw(ctx, listening, &f) })
		}
		d.drainRaw(ctx, listening, &f)
		all.Wait()
	})
}

const (
	// maxDrains is the most goroutines that empty the queue. More would wait for the locks of
	// the listening socket, as the connections' own callers do.
	maxDrains = 4

	// looking is how long a drain waits for a connection before it looks whether it may end.
	looking = 100 * time.Millisecond

	// calm is how long nobody was beyond its rate when package net takes connections again.
	calm = time.Second
)

// flood is when somebody was beyond its rate.
type flood struct {
	begun time.Time
	last  atomic.Int64 // nanoseconds after begun
}

func (d *Door) drainRaw(ctx context.Context, listening uintptr, f *flood) {
	for ctx.Err() == nil && time.Since(f.begun) < time.Duration(f.last.Load())+calm {
		fd, err := acceptRaw(listening)
		switch {
		case err == unix.EAGAIN:
			awaitRaw(listening)
		case err == unix.EINTR || err == unix.ECONNABORTED:
		case err != nil:
			return // Accept meets the error, too
		case !d.enterRaw(fd):
			f.last.Store(int64(time.Since(f.begun)))
		}
	}
}

// awaitRaw waits for a connection, on this thread: it is woken sooner than a goroutine is by
// way of the runtime's poller.
func awaitRaw(listening uintptr) {
	unix.Poll([]unix.PollFd{{Fd: int32(listening), Events: unix.POLLIN}}, int(looking.Milliseconds()))
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
func (d *Door) enterRaw(fd int) (within bool) {
	origin, ok := d.Origin(fd)
	within = !ok || d.rates.allow(origin)
	if !ok || !within && !d.rates.mayAnswer() {
		unix.Close(fd)
		d.Refused()
		return within
	}
	nc, err := connection(fd)
	switch {
	case err != nil:
		d.Refused()
	case within:
		d.queue(nc, origin)
	default:
		d.TurnAway(nc, TooFast)
	}
	return within
}

// connection makes a net.Conn of a socket, which it closes in any case.
func connection(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	return net.FileConn(f)
}
