package vectors

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

// stage is a running cimad-sim on a simulated TD, in a short directory.
type stage struct {
	t      *testing.T
	dir    string
	sim    string // the program
	config string
	daemon *exec.Cmd
}

// newStage starts a TD and a daemon with config (TOML).
func newStage(t *testing.T, config string) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cima-v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // containers enter as any uid
		t.Fatal(err)
	}
	s := &stage{t: t, dir: dir, sim: simulator(t), config: config}
	s.run("td", filepath.Join(dir, "td/td.sock"), "td", "--dir", s.path("td"))
	s.start()
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }
func (s *stage) socket() string          { return s.path("run/cima/cima.sock") }

func (s *stage) start() {
	s.t.Helper()
	if err := os.WriteFile(s.path("cimad.toml"), []byte(s.config), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.daemon = s.run("cimad-sim", s.path("run/cima-admin/admin.sock"),
		"--td", s.path("td/td.sock"), "--runtime-dir", s.path("run"), "--config", s.path("cimad.toml"))
}

func (s *stage) restart() {
	s.t.Helper()
	stop(s.daemon)
	os.Remove(s.path("run/cima-admin/admin.sock"))
	s.start()
}

// run starts the simulator and waits until its files exist.
func (s *stage) run(name, made string, args ...string) *exec.Cmd {
	s.t.Helper()
	log, err := os.Create(s.path(name + ".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(s.sim, args...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		stop(c)
		if text, err := os.ReadFile(log.Name()); err == nil && s.t.Failed() {
			s.t.Logf("%s:\n%s", name, text)
		}
	})
	for range 500 {
		if _, err := os.Stat(made); err == nil {
			return c
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	s.t.Fatalf("%s is not ready after 10 s: %s", name, text)
	return nil
}

func stop(c *exec.Cmd) {
	if c.ProcessState == nil {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
	}
}

var sim = flag.String("sim", "", "`PATH` of cimad-sim; built from this tree without it")

// simulator is the path of cimad-sim.
func simulator(t *testing.T) string {
	t.Helper()
	if *sim != "" {
		return *sim
	}
	path := filepath.Join(t.TempDir(), "cimad-sim")
	output(t, append(os.Environ(), "CGO_ENABLED=0"), "", "go", "build", "-o", path, "../../daemon/cimad-sim")
	return path
}

// output runs a command and returns what it printed.
func output(t *testing.T, env []string, input string, command ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), command[0], command[1:]...)
	c.Env, c.Stdin = env, strings.NewReader(input)
	out, err := c.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(err.Error() + ": " + string(exit.Stderr))
		}
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// own is an engine of this test's own.
type own struct{ *engine.Engine }

// engines are docker and podman, where they are installed.
func engines(t *testing.T) (found []own) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	for _, start := range []func() (*engine.Engine, error){engine.Docker, engine.Podman} {
		e, err := start()
		if err != nil {
			t.Log("no engine:", err)
			continue
		}
		found = append(found, own{e})
	}
	if len(found) == 0 || os.Getenv("CI") == "true" && len(found) < 2 {
		t.Skip("left out: needs docker and podman")
	}
	return found
}

func (e own) do(t *testing.T, input string, args ...string) string {
	t.Helper()
	out, err := e.Do(t.Context(), input, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// image makes an image from scratch.
func (e own) image(t *testing.T, name string, l *layer) string {
	t.Helper()
	if err := e.Import(t.Context(), name, l.image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Command(context.Background(), "rmi", "-f", name).Run() })
	return name
}

// in runs a container of an image to its end, connected to the stage's daemon.
func (s *stage) in(e own, input string, args ...string) string {
	s.t.Helper()
	run := append([]string{"run", "--rm", "-i", "--network", "none", "-v", filepath.Dir(s.socket()) + ":/run/cima:ro"}, e.Run...)
	return e.do(s.t, input, append(run, args...)...)
}

// layer is the content of an image.
type layer struct{ image *engine.Image }

func newLayer() *layer { return &layer{engine.NewImage()} }

// add copies a file, or everything below a folder, to the path to.
func (l *layer) add(from, to string) *layer {
	l.image.Tree(to, from, "test", "__pycache__", "dist-packages")
	return l
}
