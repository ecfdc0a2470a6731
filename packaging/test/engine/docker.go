package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Docker is a dockerd at the usual places of the namespaces that Alone made.
// It is started once, with a containerd of its own, and ends with them.
var Docker = sync.OnceValues(func() (*Engine, error) {
	if err := wantAlone("dockerd", "docker", "runc"); err != nil {
		return nil, err
	}
	e := &Engine{Name: "docker", Client: []string{"docker"}, Socket: "/run/docker.sock"}
	_, err := e.serve(context.Background(), filepath.Join(private, "dockerd.log"), exec.Command("dockerd", "--config-file", daemonJSON, "-H", "unix://"+e.Socket))
	return e, err
})

// wantAlone returns why these programs can't be an engine here.
func wantAlone(programs ...string) error {
	if os.Geteuid() != 0 {
		return errors.New("engines need root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("no %s on this machine", p)
		}
	}
	if isAlone() {
		return nil
	}
	if err := unshareable(); err != nil {
		return err
	}
	return errors.New("the program must have namespaces of its own: call engine.Alone first")
}

// serve starts a dockerd without a network, and waits until it answers.
func (e *Engine) serve(ctx context.Context, logFile string, dockerd *exec.Cmd) (*os.Process, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	dockerd.Args = append(dockerd.Args, "--iptables=false", "--ip6tables=false", "--bridge=none")
	dockerd.Stdout, dockerd.Stderr = log, log
	if err := dockerd.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, err := e.Do(ctx, "", "version")
		if err == nil {
			return dockerd.Process, nil
		}
		var status syscall.WaitStatus
		if ended, _ := syscall.Wait4(dockerd.Process.Pid, &status, syscall.WNOHANG, nil); ended != 0 || ctx.Err() != nil {
			dockerd.Process.Kill()
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("dockerd did not answer: %w: %s", err, lastLine(text))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
