package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/packaging/test/hostile/attack"
)

const (
	image  = "cima-hostile:1"
	socket = "/run/cima/cima.sock"
	echoes = "/run/echo"
)

// configuration holds no limit that isn't the default. Executions are measured, which
// gives a hostile container more to do.
const configuration = "[exec]\nmode = \"measure\"\n"

// stage is a daemon, the engines, and what storms need of them.
type stage struct {
	plan
	engines   []*engine.Engine
	dir       string
	log       string // file of the daemon's messages
	processes []*exec.Cmd
	queue     string // net.core.somaxconn as it was
}

// open starts the daemon, whose sockets and records are at the usual places of this
// program's namespaces, and the engines.
func (p plan) open(ctx context.Context) (s *stage, err error) {
	s = &stage{plan: p}
	if s.dir, err = os.MkdirTemp("", "cima-hostile-"); err != nil {
		return nil, err
	}
	s.log = filepath.Join(s.dir, "cimad.log")
	for _, start := range []func() (*engine.Engine, error){engine.Docker, engine.Podman} {
		e, err := start()
		if err != nil {
			return nil, err
		}
		s.engines = append(s.engines, e)
	}
	config := filepath.Join(s.dir, "cimad.toml")
	if err := errors.Join(os.WriteFile(config, []byte(configuration), 0o600), os.Mkdir(echoes, 0o755)); err != nil {
		return nil, err
	}
	bin, err := filepath.Abs(p.bin)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if s.queue, err = lengthenQueue(); err != nil {
		return nil, err
	}
	for _, start := range [][]string{
		{socket, filepath.Join(bin, "cimad-sim"), "--runtime-dir", "/run", "--config", config},
		{echoes + "/echo.sock", self, "echo", echoes + "/echo.sock"},
	} {
		if err := s.start(start[0], start[1:]...); err != nil {
			s.close()
			return nil, err
		}
	}
	if err := s.images(ctx, self); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// start starts a process and waits for its socket.
func (s *stage) start(socket string, words ...string) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(words[0], words[1:]...)
	c.Stderr = log
	if err := c.Start(); err != nil {
		return err
	}
	s.processes = append(s.processes, c)
	if err := weigh(c.Process.Pid); err != nil {
		return err
	}
	for range 600 {
		if nc, err := net.Dial("unix", socket); err == nil {
			return nc.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s does not listen; its messages are in %s", words[0], s.log)
}

// weigh gives a process a cgroup with ten times the usual share of the processors, beside
// those that hold containers, as systemd does by cima.slice.
func weigh(pid int) error {
	dir, file, weight := "/sys/fs/cgroup/cpu", "cpu.shares", "10240"
	if _, err := os.Stat(dir); err != nil {
		dir, file, weight = "/sys/fs/cgroup", "cpu.weight", "1000"
	}
	dir = filepath.Join(dir, fmt.Sprint("service-", pid))
	return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, file), []byte(weight), 0o644),
		os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0o644))
}

// somaxconn is the file of a sysctl, which cimad's package sets at boot.
const somaxconn = "/proc/sys/net/core/somaxconn"

// lengthenQueue sets it as the package does, and returns what it was.
func lengthenQueue() (was string, err error) {
	text, err := os.ReadFile("systemd/cima.sysctl.conf")
	if err != nil {
		return "", err
	}
	_, value, ok := strings.Cut(string(text), "net.core.somaxconn = ")
	if !ok {
		return "", errors.New("systemd/cima.sysctl.conf does not set net.core.somaxconn")
	}
	before, err := os.ReadFile(somaxconn)
	if err != nil {
		return "", err
	}
	return string(before), os.WriteFile(somaxconn, []byte(value), 0o644)
}

func (s *stage) close() {
	os.WriteFile(somaxconn, []byte(s.queue), 0o644)
	for _, c := range s.processes {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
	}
}

// images makes the images of the bystander and of the storms for each engine.
func (s *stage) images(ctx context.Context, self string) error {
	attacker, err := attack.Build()
	if err != nil {
		return err
	}
	for _, e := range s.engines {
		if err := e.Import(ctx, image, attack.Image(attacker).File("/hostile", self)); err != nil {
			return err
		}
		runtime, err := exec.LookPath("runc")
		if err != nil {
			return err
		}
		hijacked, err := attack.RuntimeImage(attacker, runtime)
		if err != nil {
			return err
		}
		if err := e.Import(ctx, image+"-runtime", hijacked); err != nil {
			return err
		}
		if err := e.Import(ctx, image+"-large", attack.Image(append(attacker[:len(attacker):len(attacker)], make([]byte, largeBytes)...))); err != nil {
			return err
		}
	}
	return nil
}

// container is the command that runs a container with the daemon's socket.
func (s *stage) container(ctx context.Context, e *engine.Engine, flags []string, words ...string) *exec.Cmd {
	args := append([]string{"run", "--rm", "--network", "none", "-v", "/run/cima:/run/cima:ro"}, e.Run...)
	return e.Command(ctx, append(append(args, flags...), words...)...)
}

// messages is how many lines the daemon has written.
func (s *stage) messages() int {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}
