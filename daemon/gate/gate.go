// Package gate answers: what is about to run?
//
// The kernel holds a process in the middle of execve(2) until the daemon has
// measured what the process is about to run (fanotify(7), FAN_OPEN_EXEC_PERM;
// Linux 5.0, and 5.15 for FAN_REPORT_PIDFD). Runtimes holds each process that
// executes the file of an OCI runtime, and Command says what it will do: when it makes
// a container, the bundle is written and the root file system is mounted; when it
// starts one, the container's first process waits in its exec FIFO (package fifo). In
// neither case has an instruction of the container run. Who executes a runtime from
// inside a container starts none, and goes on at once (spaces). Roots
// holds each process that executes a file of a container's root file system, and
// Measure returns the file's digest.
//
//	execve(2)          the kernel holds the process and writes an event
//	  accept           one goroutine reads events and never waits
//	    pass           nothing is to be decided: answer at once
//	    Known          the file's digest is known: answer at once
//	    fairQueue.put  otherwise the process waits in its payer's turn
//	  decide           one of the workers
//	    Decide         the daemon measures and logs, or asks to be called again
//	    holdLease      keeps writers away until the exec is done
//	    answer         the process goes on
//	  giveUp           deadline, error or full queue: answer, then Missed
//
// A deadline bounds how long a process is held. If the daemon dies, the kernel
// lets all processes go; if it is stopped, Guard does. The gate does not see what
// is read and not executed (libraries, scripts given to an interpreter, ld.so
// PROG), memfd, and files of other mounts (volumes, tmpfs, mounts made after
// unshare(2)).
package gate

import (
	"cmp"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/overlay"
	"github.com/cima-project/cima/daemon/procfs"
)

// Options of a gate.
type Options struct {
	Deadline time.Duration // a process is held no longer than this
	Refuse   bool          // refuse a process that Decide did not let pass in time

	// HostRoot is a path to the root directory of the host's mount namespace,
	// such as /proc/1/root; "" if the daemon is in that namespace. A mount of an
	// engine does not always show in the daemon's own namespace: podman makes the
	// directory of its mounts private.
	HostRoot string

	// Guard is a program that calls Guard when its first argument is
	// GuardCommand. "" means no guard: if this process is stopped, the processes
	// that it holds hang.
	Guard string

	// Known reports whether a held process may go on at once; nil: none may. It
	// must not wait. A process that is not known waits for Decide.
	Known func(h *HeldExec) bool

	// Decide measures what a held process is about to run. The process goes on
	// when Decide returns nil. Several workers call it concurrently. ctx ends at
	// the deadline. A Decide that must wait returns ErrAgain, and is called again
	// some milliseconds later: it keeps no worker from other processes meanwhile.
	Decide func(ctx context.Context, h *HeldExec) error

	// Missed is called for each process that went on, or was refused, without
	// a decision; by one goroutine. h is nil if the process is not known. Where it has
	// only a device, h stands for several of the container on it.
	Missed func(h *HeldExec, why error)

	// Owns reports whether a held process is known to be of the container whose root file
	// system has the file; nil: of none it is known. What is missed of such a process
	// concerns no other container. It must not wait.
	Owns func(h *HeldExec) bool

	// Hashing are the turns in which files are hashed; nil: turns of the gate's own.
	Hashing *hashing.Turns

	limits limits // zero: the usual ones; tests have less
}

// ErrAgain is what Decide returns to be called again, some milliseconds later.
var ErrAgain = errors.New("it waits for another process")

// Errors that Missed gets.
var (
	ErrDeadline = errors.New("not measured before the deadline")
	errBusy     = errors.New("too many were held at once")
	ErrOverflow = errors.New("the kernel's queue overflowed")
	ErrLetGo    = errors.New("it was let go before it was measured")
)

// HeldExec is a process in the middle of execve(2). It is valid until Decide or
// Missed returns.
type HeldExec struct {
	PID   int       // in the daemon's pid namespace
	PIDFD int       // of the same process; -1 if it has ended
	Since time.Time // when the gate took it
	fd    int       // the file that it is about to execute, open for reading

	payer    payer
	lease    *lease // on fd; kept until the exec is done
	until    time.Time
	deadline *time.Timer
	paused   int // how often Decide returned ErrAgain
	answered atomic.Bool
	users    atomic.Int32
	missed   atomic.Bool
	execDone bool // the process executes another file by now; under leaseKeeper.mu
	pathOnce sync.Once
	path     string

	commandOnce sync.Once
	command     Command
	id          overlay.File          // of the file when the process was held; zero if not known
	cacheable   *[sha512.Size384]byte // its digest, if a later exec may use it; nil otherwise
}

// gate is one fanotify group and the processes that it holds.
type gate struct {
	options Options
	file    *os.File // the group
	ended   *os.File // an eventfd: readable when read must end
	pid     int      // the daemon's own: never held

	pass    func(*HeldExec) bool // nil: none passes
	payerOf func(*HeldExec) payer
	queue   *fairQueue
	reports *reports
	untold  untold
	guard   *guard
	leases  leaseKeeper

	reading, deciding, waiting, reporting sync.WaitGroup
}

// open makes a group without marks. pass reports whether nothing is to be decided of a
// process. Neither it nor payerOf may wait.
//
// The kernel opens the file of each event as it is told here. O_NONBLOCK: to open a file
// that somebody has a lease on would keep all who are held waiting until that is broken
// (lease-break-time, 45 s); so the kernel refuses that one exec. The queue has no limit,
// because the kernel lets a process go unseen where it is full, and processes that wait in
// it are bounded by who has them.
func open(o Options, l limits, pass func(*HeldExec) bool, payerOf func(*HeldExec) payer) (*gate, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_REPORT_PIDFD|unix.FAN_CLOEXEC|unix.FAN_UNLIMITED_QUEUE,
		unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	// The descriptor is set to non-blocking after os.NewFile: Go's runtime does
	// not poll it then. Its polling would wake two more threads for each exec.
	group := os.NewFile(uintptr(fd), "fanotify")
	ended, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err := errors.Join(err, unix.SetNonblock(fd, true)); err != nil {
		group.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &gate{
		options: o, file: group, ended: os.NewFile(uintptr(ended), "eventfd"), pid: os.Getpid(),
		pass: pass, payerOf: payerOf, queue: newFairQueue(cmp.Or(o.limits, l)),
		reports: newReports(),
		leases:  newLeaseKeeper(),
	}, nil
}

// run answers the kernel until close. Call it before the first mark: a process
// that a mark holds needs an answer.
func (g *gate) run() error {
	if err := g.startGuard(); err != nil {
		g.discard()
		return err
	}
	g.reading.Go(func() {
		defer g.queue.close()
		g.read(int(g.file.Fd()), int(g.ended.Fd()))
	})
	for range g.queue.workers {
		g.deciding.Go(func() {
			for h := g.queue.next(); h != nil; h = g.queue.next() {
				if g.decide(h) {
					g.queue.done(h)
					g.release(h)
				} else {
					g.pause(h)
				}
			}
		})
	}
	g.reporting.Go(g.reportLoop)
	return nil
}

// close lets all processes go. It waits until Decide and Missed have returned.
func (g *gate) close() {
	g.ended.Write(binary.NativeEndian.AppendUint64(nil, 1))
	g.reading.Wait()
	g.leases.stop()
	g.discard() // once the guard's copy is closed too, the kernel lets all go
	if g.guard != nil {
		g.guard.stop()
	}
	g.deciding.Wait()
	g.waiting.Wait()
	g.reports.close()
	g.reporting.Wait()
}

func (g *gate) discard() {
	g.file.Close()
	g.ended.Close()
}

// accept queues the process of an event, or answers at once if too many are held.
func (g *gate) accept(e event) {
	if e.mask&unix.FAN_Q_OVERFLOW != 0 {
		g.report(nil, ErrOverflow)
	}
	if e.fd < 0 {
		return
	}
	h := &HeldExec{PID: e.pid, PIDFD: e.pidfd, Since: time.Now(), fd: e.fd}
	h.users.Store(1)
	defer g.release(h)
	if e.mask&unix.FAN_OPEN_EXEC_PERM == 0 || e.pid == g.pid {
		g.answer(h, true)
		return
	}
	g.noteExec(h.PID)
	h.id, _ = overlay.Identify(h.fd)
	if g.pass != nil && g.pass(h) {
		g.answer(h, true)
		return
	}
	if g.options.Known != nil && g.options.Known(h) {
		if !g.answer(h, true) && procfs.Alive(h.PIDFD) == nil {
			g.report(h, ErrLetGo)
		}
		return
	}
	h.payer = g.payerOf(h)
	h.users.Add(2) // the deadline and the worker
	g.waiting.Add(1)
	h.until = h.Since.Add(g.options.Deadline)
	h.deadline = time.AfterFunc(g.options.Deadline, func() {
		g.giveUp(h, ErrDeadline)
		g.deadlineOver(h)
	})
	if g.queue.put(h) {
		return
	}
	g.giveUp(h, errBusy)
	g.release(h)
	if h.deadline.Stop() {
		g.deadlineOver(h)
	}
}

// deadlineOver gives back the use of a deadline that has passed or was stopped.
func (g *gate) deadlineOver(h *HeldExec) {
	g.release(h)
	g.waiting.Done()
}

// decide calls Decide for a held process, and answers. False says that Decide is to be
// called again.
func (g *gate) decide(h *HeldExec) (done bool) {
	if h.missed.Load() {
		return true // its deadline passed while it waited
	}
	ctx, cancel := context.WithDeadline(context.Background(), h.until)
	err := g.options.Decide(ctx, h)
	cancel()
	if errors.Is(err, ErrAgain) {
		if !g.queue.isClosed() {
			return false
		}
		err = ErrLetGo
	}
	if h.deadline.Stop() {
		g.deadlineOver(h)
	}
	if err != nil {
		g.giveUp(h, err)
		return true
	}
	if h.missed.Load() {
		return true
	}
	g.holdLease(h) // before the answer: its next exec ends this one
	if !g.answer(h, true) && !h.missed.Load() && procfs.Alive(h.PIDFD) == nil {
		g.report(h, ErrLetGo)
	}
	return true
}

// A process whose Decide waits is looked at again after pauseFirst, and ever less often.
const (
	pauseFirst = time.Millisecond
	pauseMost  = 16 * time.Millisecond
)

// pause puts a process back into the queue after a while.
func (g *gate) pause(h *HeldExec) {
	wait := min(pauseFirst<<min(h.paused/4, 8), pauseMost)
	h.paused++
	g.queue.pause(h)
	time.AfterFunc(wait, func() { g.queue.resume(h) })
}
