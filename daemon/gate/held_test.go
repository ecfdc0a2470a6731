package gate

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel lets go what its queue has no place for: that is told.
func TestOverflowIsTold(t *testing.T) {
	var missed missedList
	r := hold(t, nil, Options{Deadline: time.Minute, Missed: missed.note,
		Decide: func(context.Context, *HeldExec) error { return nil }})
	r.gate.accept(event{mask: unix.FAN_Q_OVERFLOW, fd: -1, pidfd: -1})
	eventually(t, "it is told", func() bool { return missed.is(ErrOverflow) })
}

// What this process executes itself can't wait for this process.
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
	time.Sleep(50 * time.Millisecond)
}

// Who was let go by another, the guard, was not decided for in time, whatever
// is decided then.
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
	if err := exec.Command("/bin/sh", "-c", `"$0" wait`, runtime).Run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told", func() bool { return missed.is(ErrLetGo) })
}

// From before somebody goes on undecided until Missed was told to the end, there
// is somebody untold.
func TestUntold(t *testing.T) {
	dir := overlay(t)
	told, ready := make(chan struct{}), make(chan struct{})
	r, err := HoldRoots(1<<20, Options{Deadline: time.Minute,
		Missed: func(*HeldExec, error) { <-told },
		Decide: func(context.Context, *HeldExec) error { <-ready; return errors.New("no") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if _, err := r.Add(dir); err != nil {
		t.Fatal(err)
	}
	if r.Unreported() {
		t.Error("nobody went on, and somebody is untold")
	}
	close(ready)
	if err := run(filepath.Join(dir, "program")); err != nil {
		t.Fatal(err)
	}
	if !r.Unreported() {
		t.Error("it went on, and nobody is untold")
	}
	close(told)
	eventually(t, "all are told", func() bool { return !r.Unreported() })
}

// A script's lease ends with its interpreter's exec: nobody has to wait for it.
func TestLeaseOfAScript(t *testing.T) {
	dir := overlay(t)
	r, s := watch(t, dir)
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!"+filepath.Join(dir, "program")+" wait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/bin/sh", "-c", `exec "$0"`, script)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	eventually(t, "both are measured", func() bool { _, n := s.last(); return n == 2 })
	eventually(t, "the interpreter's exec ends the lease", func() bool {
		k := &r.gate.leases
		k.mu.Lock()
		defer k.mu.Unlock()
		return s.held[0].execDone
	})
	eventually(t, "the script can be written", func() bool {
		f, err := os.OpenFile(script, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil && !errors.Is(err, unix.ETXTBSY) {
			t.Fatal(err)
		}
		f.Close()
		return err == nil
	})
}
