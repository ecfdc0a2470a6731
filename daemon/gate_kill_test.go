package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw/sim"
)

// simulated is a daemon, or a TD, as a process of its own.
type simulated struct {
	*exec.Cmd
	log *daemontest.Buffer
}

func startSimulated(t *testing.T, ready string, program string, args ...string) *simulated {
	t.Helper()
	s := &simulated{Cmd: exec.Command(program, args...), log: &daemontest.Buffer{}}
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
	daemontest.Eventually(t, program+" is ready", func() bool { return strings.Contains(s.log.String(), ready) || fileExists(ready) })
	return s
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// stormedCommand makes this program a daemon that holds one runtime and sees
// podman's containers alone, so that stopping it delays nothing else.
const (
	stormedCommand  = "stormed"
	stormedDeadline = 4 * time.Second
)

func stormed(dir, runtime string) int {
	err := func() error {
		td, err := sim.Dial(filepath.Join(dir, "td", "td.sock"))
		if err != nil {
			return err
		}
		c := config.Default()
		c.Engines.Docker, c.Engines.Podman = "", ""
		c.Gate = config.Gate{Mode: config.GateOn, Runtimes: []string{runtime}, Deadline: config.Duration(stormedDeadline)}
		c.Exec.Mode, c.Exec.Deadline = config.ExecMeasure, config.Duration(stormedDeadline)
		places := slices.DeleteFunc(records.DefaultPlaces(), func(p records.Place) bool { return p.Runtime != "podman" })
		ctx := context.Background()
		d, err := New(ctx, Options{
			TEE: td, Config: c, LogDir: dirsUnder(dir).log, Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			Runtimes: []string{}, // stopping this daemon delays nothing else
			Records:  records.New(records.Options{Places: places, Rules: launch.Rules{}}),
		})
		if err != nil {
			return err
		}
		sockets, err := inherited{}.complete(dirsUnder(dir))
		if err != nil {
			return err
		}
		return d.Serve(ctx, sockets)
	}()
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// ownRuntime is a copy that only this test executes.
func ownRuntime(t *testing.T, dir string) string {
	t.Helper()
	from, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("left out:", err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(dir, "runc")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// ownGate is a simulated TD in a directory, and podman with a runtime and an
// image of its own: a daemon there can be killed, and delays nothing else.
func ownGate(t *testing.T) (dir, runtime string, podman func(...string) (string, error)) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	root, err := shell()
	if err != nil {
		t.Skip("left out: no image with a static busybox:", err)
	}
	dir, err = os.MkdirTemp("/tmp", "cima-g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "cimad-sim")
	build := exec.Command("go", "build", "-o", program, "./cimad-sim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	runtime = ownRuntime(t, dir)
	podman = podmanWith(t, runtime, root)
	startSimulated(t, filepath.Join(dir, "td", "td.sock"), program, "td", "--dir", filepath.Join(dir, "td"))
	return dir, runtime, podman
}

// The daemon is stopped, or killed, during starts and execs: no container hangs
// beyond the deadlines, and none fails.
func TestGateStoppedInStorm(t *testing.T) {
	dir, runtime, podman := ownGate(t)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			s := startSimulated(t, "msg=ready", "/proc/self/exe", stormedCommand, dir, runtime)
			if log := s.log.String(); !strings.Contains(log, "the gate stands") {
				t.Skip("left out: no gate:", log)
			}
			id, err := podman("run", "-d", "--network", "none", podmanImage, "/bin/busybox", "sleep", "600")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { podman("rm", "-f", "-t", "0", id) })
			if !strings.Contains(s.log.String(), "container measured") {
				t.Fatal("the container was not held at its start")
			}
			w := &worst{took: make(map[string]time.Duration)}
			var all sync.WaitGroup
			slots := make(chan struct{}, 6)
			for range size(6, 60) {
				all.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					w.note(t, "start and run", func() error {
						_, err := podman("run", "--rm", "--network", "none", podmanImage, "/bin/busybox", "sh", "-c", "/bin/true; /bin/sleep 0")
						return err
					})
				})
			}
			// The loops print the current second: a gap is an exec that hung.
			for range 2 {
				all.Go(func() {
					out, err := podman("exec", id, "/bin/busybox", "sh", "-c", fmt.Sprintf(
						`i=0; while [ $i -lt %d ]; do read a b </proc/uptime; /bin/true || exit 9; read c d </proc/uptime; echo $a $c; i=$((i+1)); done`, size(3000, 8000)))
					if err != nil {
						t.Error("execs:", err)
					}
					var n int
					for line := range strings.Lines(out) {
						var a, c float64
						if _, err := fmt.Sscan(line, &a, &c); err == nil {
							n++
							w.max("exec", time.Duration((c-a)*float64(time.Second)))
						}
					}
					if n != size(3000, 8000) {
						t.Errorf("%d execs of a loop ended", n)
					}
				})
			}
			time.Sleep(2 * time.Second)
			s.Process.Signal(sig)
			all.Wait()
			t.Logf("the longest: %v", w.took)
			// A start needs some four execs of the runtime, and execs of its
			// own.
			if *whole && (w.took["exec"] > 2*stormedDeadline || w.took["start and run"] > 8*stormedDeadline) {
				t.Errorf("hung for %v, and the deadline is %v", w.took, stormedDeadline)
			}
			if sig == syscall.SIGSTOP {
				s.Process.Signal(syscall.SIGCONT)
				daemontest.Eventually(t, "the gap is logged", func() bool { return strings.Contains(s.log.String(), "not measured") })
			}
		})
	}
}

// worst is the longest duration, by kind.
type worst struct {
	mu   sync.Mutex
	took map[string]time.Duration
}

func (w *worst) max(what string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took[what] = max(w.took[what], took)
}

func (w *worst) note(t *testing.T, what string, f func() error) {
	begin := time.Now()
	if err := f(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	w.max(what, time.Since(begin))
}
