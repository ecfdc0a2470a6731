package main

import (
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

	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/rpc"
)

const image = "cima-bench:1"

// stage is the measured servers and the client that drives them.
type stage struct {
	dir     string // short: a socket's path has at most 107 bytes
	where   string // the client's place, for people
	host    bool
	index   int            // of GetCCMeasurement
	pids    map[string]int // of servers
	daemons []*daemon
	driver  *driver
	undo    []func()
}

func newStage(ctx context.Context, p plan, daemons []*daemon) (_ *stage, err error) {
	dir, err := os.MkdirTemp("/tmp", "cimab-")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, pids: make(map[string]int), daemons: daemons}
	s.undo = append(s.undo, func() { os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // the container's user must be able to enter
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, d := range daemons {
		if err := s.startDaemon(ctx, d, filepath.Join(p.bin, "cimad-sim")); err != nil {
			return nil, err
		}
		s.pids[d.name] = d.pid
	}
	for _, peer := range []string{"raw", "grpc"} {
		if err := s.startPeer(peer, self, s.path(daemons[0].name)+".td/td.sock"); err != nil {
			return nil, err
		}
	}
	docker, why := engine.Docker()
	if p.host || why != nil {
		if !p.host {
			say("no container: %v", why)
		}
		err = s.onHost(self)
	} else {
		err = s.inContainer(ctx, docker, self)
	}
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, s.driver.close)
	return s, s.ready(ctx)
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// close undoes everything, in reverse order.
func (s *stage) close() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
}

// startPeer starts a server to compare with.
func (s *stage) startPeer(name, self, td string) error {
	if err := os.MkdirAll(s.path(name), 0o755); err != nil {
		return err
	}
	p, err := begin(s.path(name)+".log", s.path(name)+"/s.sock", self, name, s.path(name)+"/s.sock", td)
	if err != nil {
		return err
	}
	s.undo = append(s.undo, p.stop)
	s.pids[name] = p.process.Pid
	return nil
}

// socketOf is the path of a server's socket, as the client sees it.
func (s *stage) socketOf(server string) string {
	switch peer := server == "raw" || server == "grpc"; {
	case peer && s.host:
		return s.path(server) + "/s.sock"
	case peer:
		return "/run/" + server + "/s.sock"
	case s.host:
		return s.path(server) + "/cima/cima.sock"
	}
	return "/run/" + server + "/cima.sock"
}

// onHost runs the client as a process of this machine.
func (s *stage) onHost(self string) (err error) {
	s.host = true
	s.where = "a process of the host; index 0, for which the daemon asks the simulated TD each time"
	s.driver, err = newDriver(exec.Command(self, "client"))
	return err
}

// inContainer runs the client in a container with nothing else in it.
func (s *stage) inContainer(ctx context.Context, docker *engine.Engine, self string) (err error) {
	s.where = "a docker container from a scratch image, no network, socket directories mounted read-only; index 3, its own register"
	s.index = 3
	if err := docker.Import(ctx, image, engine.NewImage().File("/bench", self)); err != nil {
		return err
	}
	name := filepath.Base(s.dir)
	s.undo = append(s.undo, func() { docker.Command(context.Background(), "rm", "-f", name).Run() })
	args := []string{"run", "--rm", "-i", "--name", name, "--network", "none"}
	for _, d := range s.daemons {
		args = append(args, "-v", s.path(d.name)+"/cima:/run/"+d.name+":ro")
	}
	args = append(args, "-v", s.path("raw")+":/run/raw:ro", "-v", s.path("grpc")+":/run/grpc:ro", image, "/bench", "client")
	s.driver, err = newDriver(docker.Command(context.Background(), args...))
	return err
}

// ready waits until each daemon answers the client: it must know the client's
// image first.
func (s *stage) ready(ctx context.Context) error {
	for _, d := range s.daemons {
		for deadline := time.Now().Add(time.Minute); ; {
			o := s.measurement().order(s, d.name)
			o.Count = 1
			_, err := s.driver.ask(ctx, o)
			if err != nil && (ctx.Err() != nil || time.Now().After(deadline)) {
				return err
			}
			if err == nil {
				break
			}
			time.Sleep(250 * time.Millisecond)
		}
	}
	return nil
}

// extend adds n events to the client's own log at a daemon.
func (s *stage) extend(ctx context.Context, server string, from, n int) error {
	if n <= 0 {
		return nil
	}
	params, err := json.Marshal(rpc.ExtendParams{Domain: "bench", Operation: "event", Content: eventContent(from)})
	if err != nil {
		return err
	}
	o := line(rpc.MethodExtendMeasurement, string(params)).order(s, server)
	o.Count, o.Connections = n, 1
	_, err = s.driver.ask(ctx, o)
	return err
}

// driver is the client's process.
type driver struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	results *json.Decoder
	said    bytes.Buffer
}

func newDriver(c *exec.Cmd) (*driver, error) {
	d := &driver{cmd: c}
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

// ask has the client carry out an order.
func (d *driver) ask(ctx context.Context, o order) (result, error) {
	if ctx.Err() != nil {
		return result{}, errors.New("interrupted")
	}
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
