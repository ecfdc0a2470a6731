package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/daemontest"
)

// A process that executes the runtime is held until the decision, and no other
// process is.
func TestHeldUntilDecided(t *testing.T) {
	dir := t.TempDir()
	runtime, other := program(t, filepath.Join(dir, "runtime")), program(t, filepath.Join(dir, "other"))
	release, held := make(chan struct{}), make(chan string, 4)
	hold(t, []string{runtime}, Options{Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		uid, ok := h.UID()
		held <- fmt.Sprint(h.Path(), uid, ok, h.Names(dir, "nothing"), h.Names("/", "an-id"), h.Names("/", "an"))
		<-release
		return nil
	}})
	ended := make(chan error)
	go func() { ended <- run(runtime, "an-id") }()
	if got, want := <-held, fmt.Sprint(runtime, 0, true, true, true, false); got != want {
		t.Errorf("held: %s, want %s", got, want)
	}
	if err := run(other); err != nil {
		t.Error("another program meanwhile:", err)
	}
	select {
	case err := <-ended:
		t.Fatal("it went on undecided:", err)
	default:
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDeadline(t *testing.T) {
	const deadline = 200 * time.Millisecond
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint("refuse ", refuse), func(t *testing.T) {
			runtime, stuck := program(t, filepath.Join(t.TempDir(), "runtime")), make(chan struct{})
			var missed missedList
			hold(t, []string{runtime}, Options{Deadline: deadline, Refuse: refuse, Missed: missed.note,
				Decide: func(context.Context, *HeldExec) error { <-stuck; return nil }})
			defer close(stuck)
			// more than there are workers, so that all workers are stuck
			var all sync.WaitGroup
			for range workers + 4 {
				all.Go(func() {
					if err := run(runtime); errors.Is(err, errRefused) != refuse || err != nil && !refuse {
						t.Errorf("it ended with %v", err)
					}
				})
			}
			all.Wait()
			daemontest.Eventually(t, "it is reported", func() bool { return missed.is(ErrDeadline) })
		})
	}
}

func TestUndecided(t *testing.T) {
	why := errors.New("some reason")
	for _, refuse := range []bool{false, true} {
		runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
		var missed missedList
		hold(t, []string{runtime}, Options{Deadline: time.Minute, Refuse: refuse, Missed: missed.note,
			Decide: func(context.Context, *HeldExec) error { return why }})
		if err := run(runtime); errors.Is(err, errRefused) != refuse || err != nil && !refuse {
			t.Errorf("refuse %t: it ended with %v", refuse, err)
		}
		daemontest.Eventually(t, "it is reported", func() bool { return missed.is(why) })
	}
}

// The gate holds no more processes of one payer than its share, and no payer
// waits for another: neither another user while one keeps all its workers busy,
// nor the host's root while a container's root does.
func TestTooMany(t *testing.T) {
	for name, attr := range map[string]*syscall.SysProcAttr{
		"another user":       {Credential: &syscall.Credential{Uid: 12345}},
		"a container's root": {Cloneflags: syscall.CLONE_NEWPID},
	} {
		t.Run(name, func(t *testing.T) { tooMany(t, attr) })
	}
}

func tooMany(t *testing.T, attr *syscall.SysProcAttr) {
	runtime, stuck := program(t, filepath.Join(openDir(t), "runtime")), make(chan struct{})
	var missed missedList
	hold(t, []string{runtime}, Options{Deadline: time.Minute, Missed: missed.note,
		Decide: func(_ context.Context, h *HeldExec) error {
			if h.payer != (payer{}) {
				<-stuck
			}
			return nil
		}})
	release := sync.OnceFunc(func() { close(stuck) })
	defer release()
	var all sync.WaitGroup
	for range maxHeldPerPayer + 20 {
		all.Go(func() {
			c := exec.Command("/bin/sh", "-c", `"$0" true`, runtime)
			c.SysProcAttr = attr
			if err := c.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	daemontest.Eventually(t, "it is reported", func() bool { return missed.is(errBusy) })
	for range 10 {
		if err := run(runtime); err != nil {
			t.Errorf("another user's: %v", err)
		}
	}
	if missed.is(ErrDeadline) {
		t.Error("a deadline passed")
	}
	release()
	all.Wait()
}

// The kernel lets processes go when its queue is full, and the gate reports
// them.
func TestOverflowIsReported(t *testing.T) {
	var missed missedList
	r := hold(t, nil, Options{Deadline: time.Minute, Missed: missed.note,
		Decide: func(context.Context, *HeldExec) error { return nil }})
	r.gate.accept(event{mask: unix.FAN_Q_OVERFLOW, fd: -1, pidfd: -1})
	daemontest.Eventually(t, "it is reported", func() bool { return missed.is(ErrOverflow) })
}

// An exec by this process can't wait for this process.
func TestOwnExecIsNotHeld(t *testing.T) {
	r := hold(t, nil, Options{Deadline: time.Minute, Decide: func(context.Context, *HeldExec) error {
		t.Error("it was held")
		return nil
	}})
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r.gate.accept(event{mask: unix.FAN_OPEN_EXEC_PERM, fd: fd, pidfd: -1, pid: os.Getpid()})
	if n := r.gate.queue.held; n != 0 {
		t.Errorf("%d are held", n)
	}
}

// A process that the guard let go was not decided in time, whatever the later
// decision.
func TestLetGoByAnother(t *testing.T) {
	runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
	var missed missedList
	var r *Runtimes
	ready := make(chan struct{})
	r = hold(t, []string{runtime}, Options{Deadline: time.Minute, Missed: missed.note,
		Decide: func(_ context.Context, h *HeldExec) error {
			<-ready
			return respond(r.gate.file, h.fd, true)
		}})
	close(ready)
	defer waits(t, exec.Command("/bin/sh", "-c", `"$0" wait`, runtime))()
	daemontest.Eventually(t, "it is reported", func() bool { return missed.is(ErrLetGo) })
}

// Processes that wait keep no worker from others of the same user, and go on when they
// may, or at the deadline.
func TestWaitingKeepsNoWorker(t *testing.T) {
	dir := t.TempDir()
	waiting, other := program(t, filepath.Join(dir, "waiting")), program(t, filepath.Join(dir, "other"))
	var mayGo atomic.Bool
	hold(t, []string{waiting, other}, Options{Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		if h.Path() == waiting && !mayGo.Load() {
			return ErrAgain
		}
		return nil
	}})
	var all sync.WaitGroup
	var ended atomic.Int32
	for range 3 * workersPerPayer {
		all.Go(func() {
			if err := run(waiting); err != nil {
				t.Error(err)
			}
			ended.Add(1)
		})
	}
	for range 2 * workersPerPayer {
		if err := run(other); err != nil {
			t.Error("another meanwhile:", err)
		}
	}
	if n := ended.Load(); n != 0 {
		t.Errorf("%d went on before they might", n)
	}
	mayGo.Store(true)
	all.Wait()
}

// A process that waits for ever goes on at its deadline.
func TestWaitingEnds(t *testing.T) {
	runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
	var missed missedList
	hold(t, []string{runtime}, Options{Deadline: 100 * time.Millisecond, Missed: missed.note, Decide: func(context.Context, *HeldExec) error { return ErrAgain }})
	if err := run(runtime); err != nil {
		t.Error(err)
	}
	daemontest.Eventually(t, "the deadline is reported", func() bool { return missed.is(ErrDeadline) })
}

// Close lets a process go that waits.
func TestCloseWhileOneWaits(t *testing.T) {
	needRoot(t)
	runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
	var called atomic.Int32
	r, err := HoldRuntimes([]string{runtime}, Options{Deadline: time.Hour, Missed: func(*HeldExec, error) {}, Decide: func(context.Context, *HeldExec) error {
		called.Add(1)
		return ErrAgain
	}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- run(runtime) }()
	daemontest.Eventually(t, "it is asked again", func() bool { return called.Load() > 3 })
	r.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
