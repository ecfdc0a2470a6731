package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

const image = "cima-demo:1"

// start starts the simulated TD and the daemon, and makes the image.
func (s *stage) start(ctx context.Context) error {
	say("a simulated TD boots, and cimad-sim starts on it, in %s", s.dir)
	if err := s.daemon("td", []string{"td", "--dir", s.path("td"), "--platform", s.platform}, s.path("td/td.sock")); err != nil {
		return err
	}
	config := ""
	if s.engine != nil {
		config = s.engine.Config
	}
	if err := os.WriteFile(s.path("cimad.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	args := []string{"--td", s.path("td/td.sock"), "--runtime-dir", s.path("run"), "--config", s.path("cimad.toml")}
	if err := s.daemon("cimad-sim", args, s.path("run/cima-admin/admin.sock")); err != nil {
		return err
	}
	if s.engine == nil {
		return nil
	}
	return s.makeImage(ctx)
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// daemon starts cimad-sim and waits until its files exist.
func (s *stage) daemon(name string, args []string, made string) error {
	log, err := os.Create(s.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(filepath.Join(s.bin, "cimad-sim"), args...)
	c.Stdout, c.Stderr = log, log
	// Its own session, without this terminal's interrupts: the daemon is
	// stopped after its containers.
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	s.undo = append(s.undo, func() { stopProcess(c.Process, done) })
	for deadline := time.After(15 * time.Second); ; {
		if _, err := os.Stat(made); err == nil {
			return nil
		}
		select {
		case <-done:
			done <- nil
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s ended at once: %s", name, strings.TrimSpace(string(text)))
		case <-deadline:
			return fmt.Errorf("%s is not ready after 15 s", name)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// makeImage imports an image that holds cimactl and nothing else.
func (s *stage) makeImage(ctx context.Context) error {
	say("an image made from scratch holds cimactl and nothing else")
	if err := s.engine.Import(ctx, image, engine.NewImage().File("/cimactl", filepath.Join(s.bin, "cimactl"))); err != nil {
		return err
	}
	s.undo = append(s.undo, func() { s.engine.Command(context.Background(), "rmi", "-f", image).Run() })
	return nil
}

// stopProcess asks the process to end, waits, and kills it.
func stopProcess(p *os.Process, done <-chan error) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		p.Kill()
		<-done
	}
}

// caller is one run of cimactl, in a container or, if there is no engine, in a
// host process.
type caller struct {
	s      *stage
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout bytes.Buffer
	stderr bytes.Buffer
	cid    string // file with the container's id, which the engine writes
}

// begin starts cimactl with args. Every caller with the same args has the same
// command line, save for the file of the id.
func (s *stage) begin(ctx context.Context, name string, args ...string) (*caller, error) {
	c := &caller{s: s}
	if s.engine == nil {
		c.cmd = exec.CommandContext(ctx, filepath.Join(s.bin, "cimactl"), args...)
		c.cmd.Env = append(os.Environ(), "CIMA_SOCKET="+s.path("run/cima/cima.sock"))
	} else {
		c.cid = s.path(name + ".cid")
		// Not --rm: podman 5 would remove the file of the id too.
		run := []string{"run", "-i", "--network", "none", "--cidfile", c.cid,
			"-v", s.path("run/cima") + ":/run/cima:ro"}
		run = append(run, s.engine.Run...)
		c.cmd = s.engine.Command(ctx, append(append(run, image, "/cimactl"), args...)...)
		s.undo = append(s.undo, func() {
			if id := c.id(); id != "" {
				s.engine.Command(context.Background(), "rm", "-f", id).Run()
			}
		})
	}
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	return c, c.cmd.Start()
}

// id is the container's id as the engine reported it.
func (c *caller) id() string {
	text, _ := os.ReadFile(c.cid)
	return strings.TrimSpace(string(text))
}

// end writes cimactl's input and returns its output and exit code.
func (c *caller) end(input string) (stdout, stderr string, code int, err error) {
	io.WriteString(c.stdin, input)
	c.stdin.Close()
	err = c.cmd.Wait()
	if c.cmd.ProcessState != nil {
		code = c.cmd.ProcessState.ExitCode()
	}
	if code > 0 {
		err = nil
	}
	return c.stdout.String(), strings.TrimSpace(c.stderr.String()), code, err
}

// call runs cimactl to its end.
func (s *stage) call(ctx context.Context, name, input string, args ...string) (stdout, stderr string, code int, err error) {
	c, err := s.begin(ctx, name, args...)
	if err != nil {
		return "", "", 0, err
	}
	return c.end(input)
}

// appraise runs cimactl verify outside the containers, as a relying party does.
func (s *stage) appraise(ctx context.Context, evidence []byte, nonce string, args ...string) (code int, why string, err error) {
	file := s.path("appraised.json")
	if err := os.WriteFile(file, evidence, 0o600); err != nil {
		return 0, "", err
	}
	args = append([]string{"verify", file, "--nonce", nonce, "--json"}, args...)
	c := exec.CommandContext(ctx, filepath.Join(s.bin, "cimactl"), args...)
	out, err := c.Output()
	if c.ProcessState == nil {
		return 0, "", err
	}
	var result struct {
		Verdict, Reason string
		Steps           []struct{ Name, Outcome, Detail string }
	}
	json.Unmarshal(out, &result)
	why = result.Reason
	if why == "" {
		why = result.Verdict
	}
	for _, step := range result.Steps {
		if step.Outcome == "fail" {
			why = step.Name + ": " + step.Detail
			break
		}
	}
	return c.ProcessState.ExitCode(), why, nil
}

func firstLine(s string) string { l, _, _ := strings.Cut(strings.TrimSpace(s), "\n"); return l }
