package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// simulated is cimad-sim as a process of its own.
type simulated struct {
	*exec.Cmd
	log *safeBuffer
}

func startSimulated(t *testing.T, ready string, program string, args ...string) *simulated {
	t.Helper()
	s := &simulated{Cmd: exec.Command(program, args...), log: &safeBuffer{}}
	s.Stderr, s.Stdout = s.log, s.log
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Process.Kill()
		s.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(program), s.log)
		}
	})
	eventually(t, program+" is ready", func() bool { return strings.Contains(s.log.String(), ready) || fileExists(ready) })
	return s
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// The daemon is stopped, or killed, amid starts and execs: no container hangs
// beyond the deadlines, and none fails.
func TestGateStoppedInStorm(t *testing.T) {
	needDocker(t)
	needShell(t)
	dir, err := os.MkdirTemp("/tmp", "cima-g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "cimad-sim")
	if out, err := exec.Command("go", "build", "-o", program, "./cimad-sim").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	const deadline = 2 * time.Second
	config := filepath.Join(dir, "cimad.toml")
	text := fmt.Sprintf("[gate]\ndeadline = %q\n[exec]\nmode = \"measure\"\ndeadline = %q\n", deadline, deadline)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	startSimulated(t, filepath.Join(dir, "td", "td.sock"), program, "td", "--dir", filepath.Join(dir, "td"))
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			s := startSimulated(t, "msg=ready", program, "--td", filepath.Join(dir, "td", "td.sock"), "--runtime-dir", dir, "--config", config)
			if log := s.log.String(); !strings.Contains(log, "the gate stands") {
				t.Skip("left out: no gate:", log)
			}
			var longest time.Duration
			var mu sync.Mutex
			var all sync.WaitGroup
			slots := make(chan struct{}, 6)
			for range size(18, 100) {
				all.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					begin := time.Now()
					out, err := exec.Command("docker", "run", "--rm", "--network", "none", shellImage,
						"/bin/busybox", "sh", "-c", "/bin/true; /bin/sleep 0").CombinedOutput()
					mu.Lock()
					defer mu.Unlock()
					if longest = max(longest, time.Since(begin)); err != nil {
						t.Errorf("%v: %s", err, out)
					}
				})
			}
			time.Sleep(700 * time.Millisecond)
			s.Process.Signal(sig)
			all.Wait()
			t.Logf("the longest start and run took %v", longest)
			if longest > 5*deadline {
				t.Errorf("a container hung for %v", longest)
			}
			if sig == syscall.SIGSTOP {
				s.Process.Signal(syscall.SIGCONT)
				eventually(t, "the gap is logged", func() bool { return strings.Contains(s.log.String(), "not measured") })
			}
		})
	}
}
