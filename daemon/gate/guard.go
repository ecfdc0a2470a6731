package gate

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// GuardCommand is the first argument of a program that is to call Guard; Guard gets
// the other arguments.
const GuardCommand = "gate-guard"

// GuardProgram is the program that runs, whatever file has its name by now. Its main
// function calls Guard.
const GuardProgram = "/proc/self/exe"

// errStopped says that this process did not run for a while.
var errStopped = errors.New("the daemon was stopped, or too busy")

// guard is a process that answers the kernel when the daemon can't: if the daemon is
// stopped (SIGSTOP, a debugger), the kernel waits for ever. The daemon sends it
// heartbeats, and it ends with the daemon.
type guard struct {
	gate    *gate
	program string
	ended   chan struct{}
	working sync.WaitGroup
}

// The guard answers when no heartbeat came for the deadline, and not before
// minDeadline, because a busy daemon is not a stopped one. The daemon sends this
// many heartbeats in that time.
const (
	heartbeats  = 4
	minDeadline = time.Second
)

// startGuard starts the guard's process, if the options want one.
func (g *gate) startGuard() error {
	if g.options.Guard == "" {
		return nil
	}
	w := &guard{gate: g, program: g.options.Guard, ended: make(chan struct{})}
	pipe, pid, err := w.start()
	if err != nil {
		return fmt.Errorf("start the gate's guard: %w", err)
	}
	g.guard = w
	w.working.Go(func() { w.heartbeat(pipe, pid) })
	return nil
}

func (w *guard) stop() {
	close(w.ended)
	w.working.Wait()
}

// start starts the process. It does not use os/exec, which would set the group's
// descriptor to blocking.
func (w *guard) start() (pipe *os.File, pid int, err error) {
	r, b, err := os.Pipe()
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		b.Close()
		return nil, 0, err
	}
	defer null.Close()
	raw, err := w.gate.file.SyscallConn()
	if err != nil {
		b.Close()
		return nil, 0, err
	}
	o := w.gate.options
	failed := raw.Control(func(group uintptr) {
		pid, err = syscall.ForkExec(w.program, []string{"cima-gate-guard", GuardCommand, max(o.Deadline, minDeadline).String(), strconv.FormatBool(o.Refuse)},
			&syscall.ProcAttr{Env: append(os.Environ(), "GOMAXPROCS=1"), Files: []uintptr{null.Fd(), 2, 2, r.Fd(), group}})
	})
	if err = errors.Join(failed, err); err != nil {
		b.Close()
		return nil, 0, err
	}
	return b, pid, nil
}

// heartbeat sends heartbeats, and starts another guard if the guard has ended.
func (w *guard) heartbeat(pipe *os.File, pid int) {
	deadline := max(w.gate.options.Deadline, minDeadline)
	tick := time.NewTicker(deadline / heartbeats)
	defer tick.Stop()
	defer func() {
		pipe.Close()
		syscall.Wait4(pid, nil, 0, nil)
	}()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-w.ended:
			return
		case <-tick.C:
		}
		if time.Since(last) >= deadline {
			w.gate.report(nil, errStopped) // the guard has answered meanwhile
		}
		if _, err := pipe.Write([]byte{0}); err == nil {
			continue
		}
		pipe.Close()
		syscall.Wait4(pid, nil, 0, nil)
		if again, next, err := w.start(); err == nil {
			pipe, pid = again, next
		}
	}
}

// Descriptors of the guard's process.
const (
	guardHeartbeat = 3
	guardGroup     = 4
)

// maxDescriptor is above each descriptor that the daemon may have for a held
// process.
const maxDescriptor = 1 << 16

// Guard runs the guard until the process that started it ends, and returns an exit
// code. When no heartbeat came for the deadline, it answers for all held processes
// as the deadline would have, until the next heartbeat.
func Guard(args []string) int {
	if len(args) != 2 {
		return 2
	}
	deadline, err1 := time.ParseDuration(args[0])
	refuse, err2 := strconv.ParseBool(args[1])
	if errors.Join(err1, err2) != nil {
		return 2
	}
	// It ends when the pipe closes, not by a signal to the whole service.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	group := os.NewFile(guardGroup, "fanotify")
	wait, accepted := deadline, true
	buf := make([]byte, 64)
	for {
		polls := []unix.PollFd{{Fd: guardHeartbeat, Events: unix.POLLIN}}
		n, err := unix.Poll(polls, int(wait.Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 1
		case n == 0:
			if accepted {
				releaseAccepted(group, !refuse)
			}
			releaseQueued(group, !refuse)
			accepted = false // the daemon takes no more until it runs again
			wait = 20 * time.Millisecond
		default:
			if n, err := unix.Read(guardHeartbeat, buf); n <= 0 && err != unix.EINTR {
				return 0
			}
			wait, accepted = deadline, true
		}
	}
}

// releaseAccepted answers for the processes that the stopped daemon has read from
// the queue. Only the daemon knows the numbers of their descriptors, so it tries all.
func releaseAccepted(group *os.File, allow bool) {
	for fd := range maxDescriptor {
		respond(group, fd, allow)
	}
}

// releaseQueued answers for the processes in the kernel's queue.
func releaseQueued(group *os.File, allow bool) {
	buf := make([]byte, batch)
	for {
		n, err := unix.Read(guardGroup, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return // EAGAIN: the queue is empty
		}
		for rest := buf[:n]; len(rest) > 0; {
			var e event
			if e, rest, err = parse(rest); err != nil {
				break
			}
			if e.fd >= 0 {
				respond(group, e.fd, allow)
				unix.Close(e.fd)
			}
			if e.pidfd >= 0 {
				unix.Close(e.pidfd)
			}
		}
	}
}
