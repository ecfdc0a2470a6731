package main

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

// engine is a container engine on this machine.
type engine struct {
	name    string
	command []string // with its global flags
	run     []string // flags of run that this machine needs
	config  string   // what cimad must know of it, as TOML
}

// chooseEngine takes the first engine that works, and says why the others
// don't. No engine is no error: host processes stand in.
func chooseEngine(ctx context.Context, s *stage, only string) (*engine, error) {
	if os.Geteuid() != 0 {
		say("containers are left out: cimad reads root-owned records and other users' processes; run `sudo make demo`")
		return nil, nil
	}
	for _, candidate := range []struct {
		name string
		find func(context.Context, *stage) (*engine, error)
	}{
		{"docker", reachableDocker},
		{"podman", podman},
		{"dockerd", ownDockerd},
	} {
		if only != "" && only != candidate.name {
			continue
		}
		e, err := candidate.find(ctx, s)
		if err == nil {
			say("containers by %s", e.name)
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		say("no %s: %v", candidate.name, err)
	}
	if only != "" && only != "none" {
		return nil, fmt.Errorf("the engine %s that was asked for can't be used", only)
	}
	return nil, nil
}

// reachableDocker is a docker whose daemon answers and whose containers can
// reach a Unix socket of this machine.
func reachableDocker(ctx context.Context, _ *stage) (*engine, error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("not installed")
	}
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		if out, err := output(ctx, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"); err == nil {
			host = strings.TrimSpace(out)
		}
	}
	if host != "" && !strings.HasPrefix(host, "unix://") {
		return nil, fmt.Errorf("its endpoint is %s: a Unix socket can't cross to another machine", host)
	}
	if err := dockerUsable(ctx, "docker"); err != nil {
		return nil, err
	}
	e := &engine{name: "docker", command: []string{"docker"}}
	if socket := strings.TrimPrefix(host, "unix://"); socket != "" && socket != "/var/run/docker.sock" {
		e.config = fmt.Sprintf("[engines]\ndocker = %q\n", socket)
	}
	return e, nil
}

// dockerUsable asks the engine what it is.
func dockerUsable(ctx context.Context, command ...string) error {
	out, err := output(ctx, append(command, "info", "--format", "{{json .}}")...)
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
		return fmt.Errorf("its daemon doesn't answer: %s", firstLine(err.Error()))
	}
	if strings.Contains(info.OperatingSystem, "Docker Desktop") {
		return errors.New("it is Docker Desktop, which runs containers in a VM of its own: a Unix socket can't cross")
	}
	for _, option := range info.SecurityOptions {
		switch {
		case strings.Contains(option, "name=rootless"):
			return errors.New("it is rootless: its records are its user's, not root's")
		case strings.Contains(option, "name=selinux"):
			return errors.New("SELinux keeps containers from the socket until the policy module of the packages is installed")
		}
	}
	return nil
}

func podman(ctx context.Context, _ *stage) (*engine, error) {
	if _, err := exec.LookPath("podman"); err != nil {
		return nil, errors.New("not installed")
	}
	e := &engine{name: "podman", command: []string{"podman"}}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		e.command = append(e.command, "--cgroup-manager", "cgroupfs")
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		e.command = append(e.command, "--runtime", "runc") // crun refuses cgroup v1
	}
	// podman asks for limits above the hard ones where root may not raise them.
	e.run = []string{"--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"}
	if _, err := output(ctx, append(e.command, "info")...); err != nil {
		return nil, fmt.Errorf("it doesn't work: %s", firstLine(err.Error()))
	}
	return e, nil
}

// ownDockerd starts a dockerd without a network in the stage's directory.
func ownDockerd(ctx context.Context, s *stage) (*engine, error) {
	path, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, errors.New("not installed")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("dockerd is there, its client isn't")
	}
	dir := filepath.Join(s.dir, "d")
	socket := filepath.Join(s.dir, "d.sock")
	log, err := os.Create(filepath.Join(s.dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(path, "--iptables=false", "--ip6tables=false", "--bridge=none", "-H", "unix://"+socket,
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+".pid")
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	s.undo = append(s.undo, func() { stopProcess(c.Process, done) })
	docker := []string{"docker", "-H", "unix://" + socket}
	for {
		if err = dockerUsable(ctx, docker...); err == nil {
			break
		}
		select {
		case <-done:
			done <- nil
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("it ended: %s", lastLine(string(text)))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
	return &engine{
		name:    "a dockerd of its own",
		command: docker,
		config:  fmt.Sprintf("[engines]\ndocker = %q\ndocker_exec_root = %q\n", socket, dir+"/exec"),
	}, nil
}

// stopProcess asks, waits, and kills.
func stopProcess(p *os.Process, done <-chan error) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		p.Kill()
		<-done
	}
}

func output(ctx context.Context, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s: %s", strings.Join(command[:min(2, len(command))], " "), strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

func firstLine(s string) string { l, _, _ := strings.Cut(strings.TrimSpace(s), "\n"); return l }

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}
