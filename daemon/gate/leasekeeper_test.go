package gate

import (
	"context"
	"crypto/sha512"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/overlay"

	"github.com/cima-project/cima/daemon/daemontest"
)

// A script's lease ends with the exec of its interpreter: no writer has to wait
// for leaseTime.
func TestLeaseOfAScript(t *testing.T) {
	dir := mountedOverlay(t)
	r, s := watch(t, dir)
	r.gate.leases.mu.Lock()
	r.gate.leases.time = time.Minute
	r.gate.leases.mu.Unlock()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!"+filepath.Join(dir, "program")+" wait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/bin/sh", "-c", `exec "$0"`, script)
	defer waits(t, c)()
	daemontest.Eventually(t, "both are measured", func() bool { _, n := s.last(); return n == 2 })
	daemontest.Eventually(t, "the lease ends with the interpreter's exec", func() bool { // the kernel breaks it after 45 s
		f, err := openToWrite(script)
		if err != nil && !errors.Is(err, unix.ETXTBSY) && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		f.Close()
		return err == nil
	})
}

// Two programs swap, in place and by name: the bytes that run are those that
// were measured for that exec, or nothing runs.
func TestRacingWriter(t *testing.T) {
	programs := map[int][]byte{10: exiting(t, 10), 20: exiting(t, 20)}
	for name, swap := range map[string]func(file string, program []byte){
		"in place": func(file string, program []byte) {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return // ETXTBSY
			}
			f.Write(program)
			f.Close()
		},
		"by name": func(file string, program []byte) {
			next := file + ".next"
			if err := os.WriteFile(next, program, 0o755); err != nil {
				t.Error(err)
			}
			if err := os.Rename(next, file); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := mountedOverlay(t)
			_, s := watch(t, dir)
			file := filepath.Join(dir, "swapped")
			if err := os.WriteFile(file, programs[10], 0o755); err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			var writing sync.WaitGroup
			writing.Go(func() {
				for i := 0; !stop.Load(); i++ {
					swap(file, programs[10+10*(i%2)])
					time.Sleep(time.Duration(i%7) * 300 * time.Microsecond)
				}
			})
			ran := map[int]int{}
			for range 3000 { // far fewer are enough
				if min(ran[10], ran[20]) >= 30 {
					break
				}
				_, before := s.last()
				c := exec.Command("/bin/sh", "-c", `exec "$0"`, file)
				c.Run()
				got, n := s.last()
				program, known := programs[c.ProcessState.ExitCode()]
				switch {
				case !known: // ETXTBSY
				case n != before+1:
					t.Errorf("it ran, and %d were measured", n-before)
				case got.err == nil && got.digest == sha512.Sum384(program):
					ran[c.ProcessState.ExitCode()]++
				case got.err == nil:
					t.Errorf("it ended with %d, and another program was measured", c.ProcessState.ExitCode())
				case !errors.Is(got.err, ErrWritable) && !errors.Is(got.err, overlay.ErrUnlocated):
					t.Errorf("it ran unmeasured: %v", got.err)
				}
			}
			stop.Store(true)
			writing.Wait()
			if ran[10] == 0 || ran[20] == 0 {
				t.Errorf("measured and ran: %v", ran)
			}
			t.Logf("measured and ran: %v", ran)
		})
	}
}

// From hash to exec no program can write the file.
func TestWriterBetweenHashAndExec(t *testing.T) {
	dir := mountedOverlay(t)
	file := filepath.Join(dir, "program")
	var r *Roots
	hashed, ready := make(chan [48]byte, 1), make(chan struct{})
	r, err := HoldRoots(64<<20, Options{Deadline: time.Minute, Missed: func(*HeldExec, error) {},
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			content, err := r.Measure(ctx, h)
			if f, err := openToWrite(file); !errors.Is(err, unix.EAGAIN) {
				f.Close()
				t.Errorf("opened for writing after it was hashed, before it ran: %v", err)
			}
			hashed <- sha384(content)
			return err
		}})
	want := digestOf(t, file)
	r.begins(t, err, ready, dir)
	run(file)
	if got := <-hashed; got != want {
		t.Error("another digest")
	}
}
