package vectors

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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

// run starts the simulator and waits for what it makes.
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

// simulator is cimad-sim: $CIMA_SIM, else built from this tree.
func simulator(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CIMA_SIM"); path != "" {
		return path
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

// engine is a container engine on this machine.
type engine struct {
	name    string
	command []string
	run     []string // flags of run that this machine needs
}

// engines are docker and podman, where they answer.
func engines(t *testing.T) (found []engine) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root, for cimad reads root-owned records")
	}
	podman := engine{name: "podman", command: []string{"podman"},
		// It asks for limits above the hard ones where root may not raise them.
		run: []string{"--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"}}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		podman.command = append(podman.command, "--cgroup-manager", "cgroupfs")
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		podman.command = append(podman.command, "--runtime", "runc") // crun refuses cgroup v1
	}
	for _, e := range []engine{{name: "docker", command: []string{"docker"}}, podman} {
		if out, err := exec.Command(e.command[0], append(e.command[1:], "info")...).CombinedOutput(); err != nil {
			t.Logf("no %s: %v: %.200s", e.name, err, out)
			continue
		}
		found = append(found, e)
	}
	if len(found) == 0 || os.Getenv("CI") == "true" && len(found) < 2 {
		t.Skip("left out: needs docker and podman")
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "cima-docker-test.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	// Other packages' tests are kept away meanwhile: the daemon measures all
	// containers of the machine, theirs too.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return found
}

func (e engine) do(t *testing.T, input string, args ...string) string {
	t.Helper()
	return output(t, os.Environ(), input, append(e.command[:len(e.command):len(e.command)], args...)...)
}

// image makes an image from scratch.
func (e engine) image(t *testing.T, name string, layer []byte) string {
	t.Helper()
	e.do(t, string(layer), "import", "-", name)
	t.Cleanup(func() { exec.Command(e.command[0], append(e.command[1:], "rmi", "-f", name)...).Run() })
	return name
}

// in runs a container of an image beside the stage's daemon to its end.
func (s *stage) in(e engine, input string, args ...string) string {
	s.t.Helper()
	run := append([]string{"run", "--rm", "-i", "--network", "none", "-v", filepath.Dir(s.socket()) + ":/run/cima:ro"}, e.run...)
	return e.do(s.t, input, append(run, args...)...)
}

// layer is a tar of files by the paths that they get.
type layer struct {
	t *testing.T
	b bytes.Buffer
	w *tar.Writer
}

func newLayer(t *testing.T) *layer {
	l := &layer{t: t}
	l.w = tar.NewWriter(&l.b)
	return l
}

// add puts a file, or what is below a folder, at to.
func (l *layer) add(from, to string) *layer {
	l.t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == "test" || d.Name() == "__pycache__" || d.Name() == "dist-packages") {
				return fs.SkipDir
			}
			return err
		}
		info, err := os.Stat(path) // what a symbolic link leads to
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		head := &tar.Header{Name: strings.TrimPrefix(filepath.Join(to, below), "/"), Mode: int64(info.Mode().Perm()), Size: int64(len(text))}
		if err := l.w.WriteHeader(head); err != nil {
			return err
		}
		_, err = l.w.Write(text)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return l
}

func (l *layer) bytes() []byte {
	l.t.Helper()
	if err := l.w.Close(); err != nil {
		l.t.Fatal(err)
	}
	return l.b.Bytes()
}
