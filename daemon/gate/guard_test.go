package gate

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

const holdersDeadline = time.Second

// holder is a process that holds a runtime's callers, and lets them go only at
// the deadline.
func holder(runtime string) int {
	_, err := HoldRuntimes([]string{runtime}, Options{
		Deadline: holdersDeadline, Guard: "/proc/self/exe",
		Missed: func(_ *HeldExec, why error) {
			if errors.Is(why, errStopped) {
				fmt.Println("stopped")
			}
		},
		Decide: func(ctx context.Context, h *HeldExec) error { fmt.Println("held"); <-ctx.Done(); return ctx.Err() },
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

// A holder that is stopped, or killed, holds no process beyond the deadline.
func TestStoppedAndKilled(t *testing.T) {
	needRoot(t)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
			h := exec.Command("/proc/self/exe", "hold", runtime)
			out, err := h.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Process.Kill(); h.Wait() })
			lines := make(chan string, 100)
			go func() {
				for {
					var line string
					if _, err := fmt.Fscanln(out, &line); err != nil {
						return
					}
					lines <- line
				}
			}()
			if line := <-lines; line != "ready" {
				t.Fatal(line)
			}
			var all sync.WaitGroup
			begin := func() {
				if err := run(runtime); err != nil { // hangs if nothing answers
					t.Error(err)
				}
			}
			all.Go(begin) // this one is being decided
			if line := <-lines; line != "held" {
				t.Fatal(line)
			}
			h.Process.Signal(sig)
			for range 10 { // these stay in the queue
				all.Go(begin)
			}
			all.Wait()
			if sig == syscall.SIGSTOP {
				h.Process.Signal(syscall.SIGCONT)
				for line := ""; line != "stopped"; { // the gap is reported
					select {
					case line = <-lines:
					case <-time.After(time.Minute):
						t.Fatal("the stop must be reported")
					}
				}
				all.Go(begin)
				all.Wait()
			}
		})
	}
}
