package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const image = "cima-bench:1"

// config keeps every limit, and lets one caller through that asks as fast as
// it can on a thousand connections.
const config = `[limits]
connections = 4096
connections_per_container = 2048
requests_per_second = 1000000000.0
requests_burst = 1000000000
quotes_per_minute = 100000000.0
quotes_burst = 1000000
`

// stage is the servers that are measured and the client that drives them.
type stage struct {
	dir    string // short: a socket's path has at most 107 bytes
	where  string // where the client runs, for people
	index  int    // of GetCCMeasurement
	daemon int    // pid
	raw    int    // pid
	driver *driver
	undo   []func()
}

func newStage(ctx context.Context, bin string, host bool) (_ *stage, err error) {
	dir, err := os.MkdirTemp("/tmp", "cimab-")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir}
	s.undo = append(s.undo, func() { os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	// The container's user must get in.
	for _, d := range []string{"", "run", "run/cima-raw"} {
		if err := os.MkdirAll(s.path(d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := s.startServers(filepath.Join(bin, "cimad-sim"), self); err != nil {
		return nil, err
	}
	if why := noDocker(ctx); host || why != "" {
		if !host {
			say("no container: %s", why)
		}
		err = s.onHost(self)
	} else {
		err = s.inContainer(ctx, self)
	}
	if err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// close takes back everything, the last first.
func (s *stage) close() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
}

func (s *stage) startServers(sim, self string) error {
	if err := os.WriteFile(s.path("cimad.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	td, err := begin(s.path("td.log"), s.path("td/td.sock"), sim, "td", "--dir", s.path("td"))
	if err != nil {
		return err
	}
	s.undo = append(s.undo, td.stop)
	d, err := begin(s.path("cimad.log"), s.path("run/cima/cima.sock"), sim,
		"--td", s.path("td/td.sock"), "--runtime-dir", s.path("run"), "--config", s.path("cimad.toml"))
	if err != nil {
		return err
	}
	s.undo = append(s.undo, d.stop)
	s.daemon = d.process.Pid
	raw, err := begin(s.path("raw.log"), s.path("run/cima-raw/raw.sock"), self, "raw", s.path("run/cima-raw/raw.sock"))
	if err != nil {
		return err
	}
	s.undo = append(s.undo, raw.stop)
	s.raw = raw.process.Pid
	return nil
}

// noDocker says why the client can't run in a container, "" where it can.
func noDocker(ctx context.Context) string {
	if os.Geteuid() != 0 {
		return "the daemon must be root to know a container's processes"
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "info").CombinedOutput(); err != nil {
		last := strings.TrimSpace(string(out))
		return fmt.Sprintf("docker: %v: %s", err, last[strings.LastIndexByte(last, '\n')+1:])
	}
	return ""
}

// onHost runs the client as a process of this machine.
func (s *stage) onHost(self string) (err error) {
	s.where = "a process of the host; index 0, for which the daemon asks the simulated TD each time"
	s.driver, err = newDriver(exec.Command(self, "client"), s.path("run"))
	return err
}

// inContainer runs the client in a container with nothing else in it.
func (s *stage) inContainer(ctx context.Context, self string) error {
	s.where = "a docker container from a scratch image, no network, socket directories mounted read-only; index 3, its own register"
	s.index = 3
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "bench", Mode: 0o755, Size: int64(len(program))})
	w.Write(program)
	if err := w.Close(); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "docker", "import", "-", image)
	c.Stdin = &b
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("import the image: %v: %s", err, strings.TrimSpace(string(out)))
	}
	s.undo = append(s.undo, func() { exec.Command("docker", "rmi", "-f", image).Run() })
	name := filepath.Base(s.dir)
	s.undo = append(s.undo, func() { exec.Command("docker", "rm", "-f", name).Run() })
	s.driver, err = newDriver(exec.Command("docker", "run", "--rm", "-i", "--name", name, "--network", "none",
		"-v", s.path("run/cima")+":/run/cima:ro", "-v", s.path("run/cima-raw")+":/run/cima-raw:ro", image, "/bench", "client"), "")
	return err
}

// ready waits until the client gets an answer: its image must be known first.
func (s *stage) ready(ctx context.Context) error {
	s.undo = append(s.undo, s.driver.close)
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := s.driver.ask(ctx, order{Server: "cima", Request: s.measurement(), Connections: 1, Time: time.Millisecond})
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// driver is the client's process.
type driver struct {
	cmd     *exec.Cmd
	under   string
	in      io.WriteCloser
	results *json.Decoder
	said    bytes.Buffer
}

func newDriver(c *exec.Cmd, under string) (*driver, error) {
	d := &driver{cmd: c, under: strings.TrimSuffix(under, "/run")}
	c.Stderr = &d.said
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.in, d.results = in, json.NewDecoder(out)
	return d, c.Start()
}

// ask lets the client carry out an order.
func (d *driver) ask(ctx context.Context, o order) (result, error) {
	if ctx.Err() != nil {
		return result{}, errors.New("interrupted")
	}
	o.Under = d.under
	if err := json.NewEncoder(d.in).Encode(o); err != nil {
		return result{}, err
	}
	var r result
	if err := d.results.Decode(&r); err != nil {
		return r, fmt.Errorf("the client ended: %v: %s", err, strings.TrimSpace(d.said.String()))
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// close ends the client: it has no more orders.
func (d *driver) close() {
	d.in.Close()
	d.cmd.Wait()
}
