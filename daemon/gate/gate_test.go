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
	"github.com/cima-project/cima/daemon/procfs"
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
			hold(t, []string{runtime}, Options{Deadline: deadline, Refuse: refuse, limits: few, Missed: missed.note,
				Decide: func(context.Context, *HeldExec) error { <-stuck; return nil }})
			defer close(stuck)
			// more than there are workers, so that all workers are stuck
			var all sync.WaitGroup
			for range few.workers + 4 {
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

// few are limits that a test reaches.
var few = limits{held: 256, heldPerPayer: 64, workers: 16, workersPerPayer: 4}

// storm runs a program many times at once, and returns when all have ended.
func storm(t *testing.T, n int, path string, attr *syscall.SysProcAttr) {
	t.Helper()
	var all sync.WaitGroup
	defer all.Wait()
	for range n {
		all.Go(func() {
			c := exec.Command("/bin/sh", "-c", `"$0" true`, path)
			c.SysProcAttr = attr
			if err := c.Run(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who starts no container of root's is let go at once, is never missed, and takes no place
// of an engine's: whoever executes a runtime inside a container, or as another user.
func TestNoStart(t *testing.T) {
	for name, attr := range map[string]*syscall.SysProcAttr{
		"another user":                 {Credential: &syscall.Credential{Uid: 12345}},
		"a container's root":           {Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS},
		"a container's, other user":    {Cloneflags: syscall.CLONE_NEWPID, Credential: &syscall.Credential{Uid: 12345}},
		"a container's, in user space": {Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{HostID: 12345, Size: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			runtime, stuck := program(t, filepath.Join(openDir(t), "runtime")), make(chan struct{})
			var decided atomic.Int32
			hold(t, []string{runtime}, Options{Deadline: time.Minute, limits: few, Decide: func(context.Context, *HeldExec) error {
				decided.Add(1)
				<-stuck
				return nil
			}})
			var held sync.WaitGroup
			for range few.workersPerPayer {
				held.Go(func() { run(runtime) })
			}
			daemontest.Eventually(t, "an engine's own are held", func() bool { return int(decided.Load()) == few.workersPerPayer })
			storm(t, 2*few.heldPerPayer, runtime, attr) // Missed fails the test
			if n := int(decided.Load()); n != few.workersPerPayer {
				t.Errorf("%d were decided that are no starts", n-few.workersPerPayer)
			}
			close(stuck)
			held.Wait()
		})
	}
}

// Whatever namespaces root of the host joins, what it executes in the host's pid namespace
// may be a start: an engine may have its own mount, cgroup or network namespace.
func TestStart(t *testing.T) {
	for name, flags := range map[string]uintptr{
		"none": 0, "mounts": syscall.CLONE_NEWNS, "cgroups": syscall.CLONE_NEWCGROUP, "network": syscall.CLONE_NEWNET, "user": syscall.CLONE_NEWUSER,
	} {
		t.Run(name, func(t *testing.T) {
			runtime := program(t, filepath.Join(openDir(t), "runtime"))
			var decided atomic.Int32
			hold(t, []string{runtime}, Options{Deadline: time.Minute, Decide: func(context.Context, *HeldExec) error {
				decided.Add(1)
				return nil
			}})
			attr := &syscall.SysProcAttr{Cloneflags: flags}
			if flags == syscall.CLONE_NEWUSER {
				attr.UidMappings = []syscall.SysProcIDMap{{Size: 1}}
			}
			storm(t, 1, runtime, attr)
			if n := decided.Load(); n != 1 {
				t.Errorf("%d were decided", n)
			}
		})
	}
}

// The gate holds no more processes of one mount namespace than its share, and no other
// waits for it.
func TestTooMany(t *testing.T) {
	runtime, stuck := program(t, filepath.Join(openDir(t), "runtime")), make(chan struct{})
	host, err := procfs.Stat(unix.AT_FDCWD, "/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	var missed missedList
	hold(t, []string{runtime}, Options{Deadline: time.Minute, Missed: missed.note, limits: few,
		Decide: func(_ context.Context, h *HeldExec) error {
			if h.payer.space != host {
				<-stuck
			}
			return nil
		}})
	release := sync.OnceFunc(func() { close(stuck) })
	defer release()
	// One mount namespace of them all: in the host's pid namespace, as a container is that
	// has it.
	script := `n=$1; while [ $n -gt 0 ]; do "$0" true & n=$((n-1)); done; wait`
	c := exec.Command("/bin/sh", "-c", script, runtime, fmt.Sprint(few.heldPerPayer+20))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, "it is reported", func() bool { return missed.is(errBusy) })
	for range 10 {
		if err := run(runtime); err != nil {
			t.Errorf("an engine's: %v", err)
		}
	}
	if missed.is(ErrDeadline) {
		t.Error("a deadline passed")
	}
	release()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
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
	if n := r.gate.queue.total; n != 0 {
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
	hold(t, []string{waiting, other}, Options{limits: few, Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		if h.Path() == waiting && !mayGo.Load() {
			return ErrAgain
		}
		return nil
	}})
	var all sync.WaitGroup
	var ended atomic.Int32
	for range 3 * few.workersPerPayer {
		all.Go(func() {
			if err := run(waiting); err != nil {
				t.Error(err)
			}
			ended.Add(1)
		})
	}
	for range 2 * few.workersPerPayer {
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
