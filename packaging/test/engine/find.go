package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Found is an engine of this machine, or one that Find started.
type Found struct {
	*Engine
	stop func()
}

// Stop ends the engine if Find started it.
func (f *Found) Stop() {
	if f.stop != nil {
		f.stop()
	}
}

// Find returns the first engine that works on this machine (docker, podman, or
// a dockerd that it starts below dir), and reports to say why the others don't.
// only, if not empty, is the only one to try: "docker", "podman" or "dockerd".
// The result is nil if no engine works and only is "" or "none".
func Find(ctx context.Context, dir, only string, say func(format string, args ...any)) (*Found, error) {
	for _, candidate := range []struct {
		name string
		find func(context.Context, string) (*Found, error)
	}{
		{"docker", machinesDocker},
		{"podman", machinesPodman},
		{"dockerd", startedDockerd},
	} {
		if only != "" && only != candidate.name {
			continue
		}
		f, err := candidate.find(ctx, dir)
		if err == nil {
			say("containers by %s", f.Name)
			return f, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		say("no %s: %v", candidate.name, err)
	}
	if only != "" && only != "none" {
		return nil, fmt.Errorf("the engine %s does not work here", only)
	}
	return nil, nil
}

// machinesDocker is a docker whose daemon answers and whose containers can
// connect to a Unix socket of this machine.
func machinesDocker(ctx context.Context, _ string) (*Found, error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("not installed")
	}
	e := &Engine{Name: "docker", Client: []string{"docker"}}
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host, _ = e.Do(ctx, "", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
	}
	if host != "" && !strings.HasPrefix(host, "unix://") {
		return nil, fmt.Errorf("its endpoint %s must be a Unix socket of this machine", host)
	}
	if err := e.usable(ctx); err != nil {
		return nil, err
	}
	if e.Socket = strings.TrimPrefix(host, "unix://"); e.Socket != "" && e.Socket != "/var/run/docker.sock" {
		e.Config = fmt.Sprintf("[engines]\ndocker = %q\n", e.Socket)
	}
	return &Found{Engine: e}, nil
}

// usable asks docker for its properties.
func (e *Engine) usable(ctx context.Context) error {
	out, err := e.Do(ctx, "", "info", "--format", "{{json .}}")
	var info struct {
		OperatingSystem string
		SecurityOptions []string
		ServerErrors    []string
	}
	if json.Unmarshal([]byte(out), &info) == nil && len(info.ServerErrors) > 0 {
		err = errors.New(info.ServerErrors[0])
	}
	if err != nil {
		if strings.Contains(err.Error(), "permission denied") {
			return errors.New("no rights to its socket: run as root, or as a member of the group docker")
		}
		return fmt.Errorf("its daemon did not answer: %w", err)
	}
	if strings.Contains(info.OperatingSystem, "Docker Desktop") {
		return errors.New("it is Docker Desktop, which runs containers in a VM of its own, and they can't connect to a Unix socket of this machine")
	}
	for _, option := range info.SecurityOptions {
		switch {
		case strings.Contains(option, "name=rootless"):
			return errors.New("it is rootless: its records belong to its user, and must be root's")
		case strings.Contains(option, "name=selinux"):
			return errors.New("SELinux denies containers the socket: the packages' policy module must be installed")
		}
	}
	return nil
}

func machinesPodman(ctx context.Context, _ string) (*Found, error) {
	if _, err := exec.LookPath("podman"); err != nil {
		return nil, errors.New("not installed")
	}
	e := &Engine{Name: "podman", Client: []string{"podman", "--runtime", runtimeHere()}}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		e.Client = append(e.Client, "--cgroup-manager", "cgroupfs")
	}
	// podman requests limits above the hard ones where root may not raise them.
	e.Run = []string{"--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"}
	if _, err := e.Do(ctx, "", "info"); err != nil {
		return nil, fmt.Errorf("it doesn't work: %w", err)
	}
	return &Found{Engine: e}, nil
}

// startedDockerd starts a dockerd without a network, whose files are below dir.
func startedDockerd(ctx context.Context, dir string) (*Found, error) {
	for _, program := range []string{"dockerd", "docker"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("no %s is installed", program)
		}
	}
	d, socket := filepath.Join(dir, "d"), filepath.Join(dir, "d.sock")
	e := &Engine{
		Name: "a dockerd of its own", Client: []string{"docker", "-H", "unix://" + socket}, Socket: socket,
		Config: fmt.Sprintf("[engines]\ndocker = %q\ndocker_exec_root = %q\n", socket, d+"/exec"),
	}
	c := exec.Command("dockerd", "-H", "unix://"+socket, "--data-root", d+"/data", "--exec-root", d+"/exec", "--pidfile", d+".pid")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // its own session, without this terminal's interrupts: it ends after its containers
	process, err := e.serve(ctx, filepath.Join(dir, "dockerd.log"), c)
	if err != nil {
		return nil, err
	}
	return &Found{Engine: e, stop: func() {
		kill := time.AfterFunc(15*time.Second, func() { process.Kill() })
		defer kill.Stop()
		process.Signal(syscall.SIGTERM)
		process.Wait()
	}}, nil
}
