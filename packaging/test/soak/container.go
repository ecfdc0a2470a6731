package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cima-project/cima/rpc"
)

// container is one container, as the soak sees it.
type container struct {
	id      string
	b       *boot
	process *exec.Cmd
	orders  io.WriteCloser
	answers *json.Decoder
	number  int // of extends so far

	acknowledged, unknown, refused map[string]bool // contents of extends, over all its instances
	measured                       bool            // the daemon answered it about itself
	made                           bool            // made by the soak, not by an engine
}

func (b *boot) newContainer(id string) *container {
	return &container{id: id, b: b, acknowledged: make(map[string]bool), unknown: make(map[string]bool), refused: make(map[string]bool)}
}

// begin starts a process that takes orders.
func (c *container) begin(p *exec.Cmd) error {
	in, err := p.StdinPipe()
	if err != nil {
		return err
	}
	out, err := p.StdoutPipe()
	if err != nil {
		return err
	}
	c.process, c.orders, c.answers = p, in, json.NewDecoder(bufio.NewReader(out))
	return p.Start()
}

// start starts a made-up container, or starts it again.
func (c *container) start() error {
	p := exec.Command(c.b.self, "caller", filepath.Join(c.b.dir, "cima", "cima.sock"))
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	p.Stderr = os.Stderr
	if err := c.begin(p); err != nil {
		return err
	}
	c.made = true
	return c.b.engine.adopt(c.id, p.Process.Pid)
}

// stop ends a made-up container.
func (c *container) stop() error {
	c.process.Process.Kill()
	c.process.Wait()
	return c.b.engine.forget(c.id)
}

// call gives an order and waits for its outcome. An error means that the
// container is gone.
func (c *container) call(o order) (outcome, error) {
	var a outcome
	if err := json.NewEncoder(c.orders).Encode(o); err != nil {
		return a, err
	}
	if err := c.answers.Decode(&a); err != nil {
		return a, err
	}
	if rogues[o.Do] != nil {
		c.b.tally.count("misbehaviour: " + o.Do)
		return a, nil
	}
	c.b.tally.count("calls")
	switch {
	case a.Error == "":
		c.b.tally.count("calls answered: " + o.Do)
		c.measured = c.measured || o.Do != doWhoAmI
	case a.Code != 0:
		c.b.tally.count(fmt.Sprintf("calls refused: %d", a.Code))
		c.refusedWith(o, a)
	default:
		c.b.tally.count("calls cut off")
	}
	if took := time.Duration(a.TookMS) * time.Millisecond; took > callTime-time.Second {
		c.b.tally.violate("%s of %.12s had no answer for %v: %s", o.Do, c.id, took, a.Error)
	}
	return a, nil
}

// refusedWith checks an error: failing hardware, engines and restarts must
// explain it.
func (c *container) refusedWith(o order, a outcome) {
	switch a.Code {
	case rpc.CodeTEEUnavailable, rpc.CodeNotReady, rpc.CodeRateLimited, rpc.CodeShuttingDown:
	default:
		c.b.tally.violate("%s of %.12s was refused: %d %s", o.Do, c.id, a.Code, a.Error)
	}
}

// extend extends the container's register with a content that occurs once.
func (c *container) extend() error {
	c.number++
	content := fmt.Sprintf("%s %d", c.id, c.number)
	c.unknown[content] = true // in case the container is killed meanwhile
	a, err := c.call(order{Do: doExtend, Content: content})
	if err != nil {
		return err
	}
	switch {
	case a.Error == "":
		delete(c.unknown, content)
		c.acknowledged[content] = true
		c.b.tally.count("extends acknowledged")
	case !a.Unknown:
		delete(c.unknown, content)
		c.refused[content] = true
	default:
		c.b.tally.count("extends of unknown outcome")
	}
	return nil
}
