package gate

import (
	"context"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The first exec on a root file system is held, by a payer of its own, and no exec after
// it was let go; those of runtimes are held all the while.
func TestHoldFirst(t *testing.T) {
	dir := mountedOverlay(t)
	runtime, file := program(t, filepath.Join(t.TempDir(), "runtime")), filepath.Join(dir, "program")
	var first, runtimes, others atomic.Int32
	var device atomic.Uint64
	var r *Runtimes
	ready := make(chan struct{})
	r = hold(t, []string{runtime}, Options{Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		<-ready
		switch device := device.Load(); {
		case h.Device() != device && h.payer.device == 0:
			runtimes.Add(1)
		case h.Device() == device && h.payer.device == device && h.IsHeld():
			if c := h.Command(); c.Name != "" {
				t.Errorf("the container's own arguments are believed: %+v", c)
			}
			first.Add(1)
			return r.LetFirst(h)
		default:
			others.Add(1)
		}
		return nil
	}})
	close(ready)
	if err := run(file); err != nil || first.Load() != 0 {
		t.Fatal("held before it is wanted:", err)
	}
	on, err := r.HoldFirst(dir)
	if err != nil {
		t.Fatal(err)
	}
	device.Store(on)
	for range 2 {
		if err := run(runtime); err != nil {
			t.Fatal(err)
		}
		storm(t, 1, file, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}) // as a container's
	}
	if first.Load() != 1 || runtimes.Load() != 2 || others.Load() != 0 {
		t.Errorf("held: %d first, %d of the runtime, %d others", first.Load(), runtimes.Load(), others.Load())
	}
	if _, err := r.HoldFirst(filepath.Dir(dir)); err == nil {
		t.Error("a directory of the host is held")
	}
}

// A process that was let go is not held any more, whatever this gate knows.
func TestIsHeld(t *testing.T) {
	dir := mountedOverlay(t)
	got := make(chan bool, 2)
	r, err := HoldRuntimes(nil, Options{Deadline: 50 * time.Millisecond, Missed: func(*HeldExec, error) {}, Decide: func(ctx context.Context, h *HeldExec) error {
		got <- h.IsHeld()
		<-ctx.Done()
		for end := time.Now().Add(time.Minute); h.IsHeld() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		got <- h.IsHeld()
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.HoldFirst(dir); err != nil {
		t.Fatal(err)
	}
	end := waits(t, exec.Command("/bin/sh", "-c", `"$0" wait`, filepath.Join(dir, "program")))
	if before, after := <-got, <-got; !before || after {
		t.Errorf("held before the deadline: %t, after it, when it runs: %t", before, after)
	}
	end()
}
