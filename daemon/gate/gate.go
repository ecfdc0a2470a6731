// Package gate answers: what is about to run?
//
// It has the kernel hold processes in the middle of execve(2), by fanotify's
// permission events (fanotify(7), FAN_OPEN_EXEC_PERM; Linux 5.0, and 5.15 for
// FAN_REPORT_PIDFD), until somebody has looked at what they are about to run:
//
//   - Runtimes holds whoever executes the file of an OCI runtime. At that
//     moment the bundle is written and the root file system mounted, and no
//     instruction of the container has run.
//   - Roots holds whoever executes a file of a container's root file system,
//     and Measure tells what the file holds.
//
// Nobody is held for longer than a deadline. Who answers the kernel never
// waits for anything: deciding is left to a bounded number of workers, and
// what they don't decide in time is let go, or refused, and reported. If this
// process dies the kernel lets everybody go; if it is stopped, Guard does.
//
// What it can't see: what is read and not executed (libraries, scripts given
// to an interpreter, ld.so PROG), memfd, and files of other mounts (volumes,
// tmpfs, mounts made after unshare(2)).
package gate

import (
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

	"github.com/cima-project/cima/daemon/procfs"
)

// Options of a gate.
type Options struct {
	Deadline time.Duration // for which a process is held at most
	Refuse   bool          // refuse what was not decided in time, or failed

	// HostRoot is where the root of the host's mount namespace is seen from a
	// mount namespace of our own, as /proc/1/root; "" where ours is the host's.
	// What an engine mounts doesn't always come through: podman makes the
	// directory private that its mounts lie in.
	HostRoot string

	// Guard is a program that calls Guard when its first argument is
	// GuardCommand. "" is for none: whoever stops this process then stops
	// those that it holds.
	Guard string

	// Known, if any, is asked by who reads the kernel's events whether a held
	// process may go on at once. It must not wait. Who is not known waits for
	// Decide.
	Known func(h *HeldExec) bool

	// Decide looks at a held process, which may go on when it returns nil.
	// It is called by several workers at once. ctx ends at the deadline.
	Decide func(ctx context.Context, h *HeldExec) error

	// Missed is told, by one goroutine, of each process that went on, or
	// was refused, without a decision. h is nil where that is not known.
	Missed func(h *HeldExec, why error)
}

// Errors that Missed is told.
var (
	ErrDeadline = errors.New("not measured before the deadline")
	errBusy     = errors.New("too many were held at once")
	ErrOverflow = errors.New("the kernel's queue overflowed")
	ErrLetGo    = errors.New("it was let go before it was measured")
)

// HeldExec is a process in the middle of execve(2). It is valid until Decide or
// Missed returns.
type HeldExec struct {
	PID   int // of the process, in our pid namespace
	PIDFD int // of that very process; -1 if it ended already
	fd    int // what it is about to execute, open for reading

	payer     payer
	lease     *lease // taken on FD, for as long as the exec isn't through
	until     time.Time
	deadline  *time.Timer
	answered  atomic.Bool
	users     atomic.Int32
	missed    atomic.Bool
	execDone  bool // the process executes something else by now; under keeper.mu
	pathOnce  sync.Once
	path      string
	id        fileID                // when it was held; zero where that isn't known
	cacheable *[sha512.Size384]byte // its digest, where that may be remembered
}

// gate is one fanotify group and those that it holds.
type gate struct {
	options Options
	file    *os.File // the group
	ended   *os.File // an eventfd: reading ends
	pid     int      // our own: never held

	payerOf    func(*HeldExec) payer
	queue      *fairQueue
	reports    chan report
	lost       atomic.Bool  // a report found no place
	unreported atomic.Int64 // who went on undecided, before Missed was told
	guard      *guard
	leases     leaseKeeper

	reading, deciding, waiting, reporting sync.WaitGroup
}

// open makes a group without marks. charge must not wait for anything.
func open(o Options, charge func(*HeldExec) payer) (*gate, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_REPORT_PIDFD|unix.FAN_CLOEXEC,
		unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	// A file that blocks when it is made one of the os package's is not polled
	// by Go's runtime, whose polling costs each exec two more threads' wake-up.
	group := os.NewFile(uintptr(fd), "fanotify")
	ended, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err := errors.Join(err, unix.SetNonblock(fd, true)); err != nil {
		group.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &gate{
		options: o, file: group, ended: os.NewFile(uintptr(ended), "eventfd"), pid: os.Getpid(),
		payerOf: charge, queue: newFairQueue(),
		reports: make(chan report, maxReports),
		leases:  newLeaseKeeper(),
	}, nil
}

// run answers until close. It is called before the first mark is laid: what a
// mark holds must find somebody who answers.
func (g *gate) run() error {
	if err := g.startGuard(); err != nil {
		g.discard()
		return err
	}
	g.reading.Go(func() {
		defer g.queue.close()
		g.read(int(g.file.Fd()), int(g.ended.Fd()))
	})
	for range workers {
		g.deciding.Go(func() {
			for h := g.queue.next(); h != nil; h = g.queue.next() {
				g.decide(h)
				g.queue.done(h)
				g.release(h)
			}
		})
	}
	g.reporting.Go(g.reportLoop)
	return nil
}

// close lets everybody go. It waits for Decide and Missed to return.
func (g *gate) close() {
	g.ended.Write(binary.NativeEndian.AppendUint64(nil, 1))
	g.reading.Wait()
	g.leases.stop()
	g.discard() // with this and the guard's the kernel allows what is pending
	if g.guard != nil {
		g.guard.stop()
	}
	g.deciding.Wait()
	g.waiting.Wait()
	close(g.reports)
	g.reporting.Wait()
}

func (g *gate) discard() {
	g.file.Close()
	g.ended.Close()
}

// accept queues an event's process, or answers at once where too many are held.
func (g *gate) accept(e event) {
	if e.mask&unix.FAN_Q_OVERFLOW != 0 {
		g.report(nil, ErrOverflow)
	}
	if e.fd < 0 {
		return
	}
	h := &HeldExec{PID: e.pid, PIDFD: e.pidfd, fd: e.fd}
	h.users.Store(1)
	defer g.release(h)
	if e.mask&unix.FAN_OPEN_EXEC_PERM == 0 || e.pid == g.pid {
		g.answer(h, true)
		return
	}
	g.noteExec(h.PID)
	h.id, _ = identify(h.fd)
	if g.options.Known != nil && g.options.Known(h) {
		if !g.answer(h, true) && procfs.Alive(h.PIDFD) == nil {
			g.report(h, ErrLetGo)
		}
		return
	}
	h.payer = g.payerOf(h)
	h.users.Add(2) // of the deadline, and of who decides
	g.waiting.Add(1)
	h.until = time.Now().Add(g.options.Deadline)
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

// deadlineOver says that a deadline no longer matters.
func (g *gate) deadlineOver(h *HeldExec) {
	g.release(h)
	g.waiting.Done()
}

// decide has a held process looked at, and answers.
func (g *gate) decide(h *HeldExec) {
	if h.missed.Load() {
		return // its deadline passed in the queue
	}
	ctx, cancel := context.WithDeadline(context.Background(), h.until)
	err := g.options.Decide(ctx, h)
	cancel()
	if h.deadline.Stop() {
		g.deadlineOver(h)
	}
	if err != nil {
		g.giveUp(h, err)
		return
	}
	if h.missed.Load() {
		return
	}
	g.holdLease(h) // before it goes on: what it executes next is through with this
	if !g.answer(h, true) && !h.missed.Load() && procfs.Alive(h.PIDFD) == nil {
		g.report(h, ErrLetGo)
	}
}
