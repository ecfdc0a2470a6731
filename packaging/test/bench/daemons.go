package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
)

// limits enables every limit, and allows one caller to send requests as fast as
// it can on a thousand connections.
const limits = `[limits]
connections = 4096
connections_per_container = 2048
requests_per_second = 1000000000.0
requests_burst = 1000000000
quotes_per_minute = 100000000.0
quotes_burst = 1000000
`

// A daemon is one that is measured, and the load that it has from the start.
type daemon struct {
	name       string // of its directory on the stage, and of its socket in the container
	events     int    // of other containers, in its log
	containers int    // other containers, running
	more       string // configuration
	pid        int
}

// filled lets the measured container fill its own log. Gates are off: several
// daemons can't share the machine's runtimes.
const filled = `log_bytes = 4294967296
evidence_reply = 268435456
events_per_container = 1000000
[gate]
mode = "off"
[exec]
mode = "off"
[[access]]
image = "*cima-bench*"
allow = ["ExtendMeasurement"]
`

func (s *stage) startDaemon(ctx context.Context, d *daemon, sim string) error {
	dir := s.path(d.name)
	for _, sub := range []string{dir, filepath.Join(dir, "cima")} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
	}
	td, err := begin(dir+".td.log", dir+".td/td.sock", sim, "td", "--dir", dir+".td")
	if err != nil {
		return err
	}
	s.undo = append(s.undo, td.stop)
	config := limits + d.more
	var crowd []string
	if d.containers > 0 {
		c := &crowded{root: dir + ".exec", parent: "cima-bench-" + filepath.Base(s.dir)}
		s.undo = append(s.undo, c.end)
		say("%s: %d containers are made", d.name, d.containers)
		if crowd, err = c.begin(ctx, d.containers); err != nil {
			return err
		}
		config += fmt.Sprintf("[engines]\ndocker_exec_root = %q\n", c.root)
	}
	if d.events > 0 {
		say("%s: %d events are logged", d.name, d.events)
		if err := fill(ctx, filepath.Join(dir, "log", "cima"), dir+".td/td.sock", d.events, crowd); err != nil {
			return fmt.Errorf("fill the log: %w", err)
		}
	}
	if err := os.WriteFile(dir+".toml", []byte(config), 0o644); err != nil {
		return err
	}
	p, err := begin(dir+".log", filepath.Join(dir, "cima/cima.sock"), sim,
		"--td", dir+".td/td.sock", "--runtime-dir", dir, "--config", dir+".toml")
	if err != nil {
		return err
	}
	s.undo = append(s.undo, p.stop)
	d.pid = p.process.Pid
	return nil
}

// fill logs events of other containers with the daemon's own ledger. Meanwhile
// the register is kept here, and the simulated TD is extended by the same
// digests afterwards: one round trip for each event and not three.
func fill(ctx context.Context, dir, td string, events int, owners []string) error {
	machine, err := sim.Dial(td)
	if err != nil {
		return err
	}
	boot, err := machine.BootID()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	r := &keptRegister{}
	l, err := ledger.Open(ctx, ledger.Options{Dir: dir, BootID: boot, Anchor: logs.AnchorRTMR3, Register: r})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Begin(ctx); err != nil {
		return err
	}
	for i := range max(1, 100-len(owners)) {
		owners = append(owners, strings.Repeat(fmt.Sprintf("%08x", i), 8))
	}
	for _, owner := range owners {
		launch := map[string]any{"args": []string{"/bin/sleep", "1000"}, "cwd": "/"}
		if _, err := l.Append(ctx, ledger.Event{Operation: logs.OpLaunch, Owner: owner, Instance: "before", Measured: launch}); err != nil {
			return err
		}
	}
	for i := len(owners); i < events; i++ {
		content := map[string]string{"domain": "bench", "operation": "event", "content": eventContent(i)}
		if _, err := l.Append(ctx, ledger.Event{Operation: logs.OpExtend, Owner: owners[i%len(owners)], Instance: "before", Measured: content}); err != nil {
			return err
		}
	}
	for _, digest := range r.digests {
		if err := machine.Extend(ctx, digest); err != nil {
			return err
		}
	}
	return nil
}

// keptRegister is RTMR3 while a log is filled.
type keptRegister struct {
	now     hw.Digest
	digests []hw.Digest
}

func (r *keptRegister) Registers(context.Context) (all hw.Registers, err error) {
	all.RTMR[3] = r.now
	return all, nil
}

func (r *keptRegister) Extend(_ context.Context, digest hw.Digest) error {
	r.now = r.now.Extend(digest)
	r.digests = append(r.digests, digest)
	return nil
}
