package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// audit ends the daemon and reads the boot's log from disk. The log must replay
// to the register, and have each acknowledged event exactly once.
func (b *boot) audit(ctx context.Context) error {
	b.waitForExits(ctx)
	b.manager.end(syscall.SIGTERM)
	l, err := readLog(b.manager.path("log/cima/runtime.log"))
	if err != nil {
		return err
	}
	now, err := b.td.Registers(ctx)
	if err != nil {
		return err
	}
	if now.RTMR[3] != l.register {
		b.tally.violate("the log replays to %s, RTMR3 is %s", l.register, now.RTMR[3])
	}
	for what, n := range l.once {
		if n > 1 {
			b.tally.violate("the log has %s %d times", what, n)
		}
	}
	if len(l.keys) != 1 {
		b.tally.violate("%d agent keys over all starts of a boot", len(l.keys))
	}
	unexited := 0
	for _, c := range b.ended {
		c.compare("the log", l.extends[c.id])
		if c.measured && !l.launched[c.id] {
			b.tally.violate("%.12s had answers about itself, and the log has no launch of it", c.id)
		}
		if c.made && l.launched[c.id] && !l.exited[c.id] {
			unexited++
		}
	}
	if unexited > 0 {
		b.tally.violate("%d containers of %d have a launch and no exit", unexited, len(b.ended))
	}
	b.tally.add("events in the logs", l.events)
	for name := range l.operations {
		b.tally.add("events: "+name, l.operations[name])
	}
	return nil
}

// waitForExits gives the daemon time to notice that the last containers ended.
func (b *boot) waitForExits(ctx context.Context) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(500 * time.Millisecond) {
		l, err := readLog(b.manager.path("log/cima/runtime.log"))
		if err != nil {
			continue // a record may be half written
		}
		left := 0
		for _, c := range b.ended {
			if c.made && l.launched[c.id] && !l.exited[c.id] {
				left++
			}
		}
		if left == 0 {
			return
		}
	}
}

// bootLog is the content of a log on disk.
type bootLog struct {
	events     int
	register   hw.Digest
	once       map[string]int            // how often a fact was logged that may be logged once
	extends    map[string]map[string]int // contents by container
	launched   map[string]bool
	exited     map[string]bool // containers with an exit since their last launch
	keys       map[string]bool
	operations map[string]int
}

func readLog(path string) (*bootLog, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &bootLog{
		once: make(map[string]int), extends: make(map[string]map[string]int), launched: make(map[string]bool),
		exited: make(map[string]bool), keys: make(map[string]bool), operations: make(map[string]int),
	}
	instances := make(map[string]string)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r struct {
			After, Instance string
			Event           []byte
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if r.Event == nil {
			continue // the header
		}
		e, err := logs.ParseEvent(r.Event)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		l.register = l.register.Extend(hw.Digest(e.Digest()))
		if l.register.String() != r.After {
			return nil, fmt.Errorf("%s: event %d must follow from those before it", path, l.events)
		}
		l.events++
		l.take(e, r.Instance, instances)
	}
	return l, lines.Err()
}

func (l *bootLog) take(e logs.Event, instance string, instances map[string]string) {
	l.operations[e.Operation]++
	id := e.Container
	switch e.Operation {
	case logs.OpStart:
		var body logs.StartBody
		json.Unmarshal(e.Body(), &body)
		l.keys[string(body.AgentKey)] = true
	case logs.OpLaunch:
		instances[id], l.launched[id], l.exited[id] = instance, true, false
		l.once["launch of "+id+" "+instance]++
	case logs.OpImage:
		l.once["image of "+id+" "+instances[id]]++
	case logs.OpExit:
		l.exited[id] = true
		l.once["exit of "+id+" "+instances[id]]++
	case logs.OpExtend:
		if l.extends[id] == nil {
			l.extends[id] = make(map[string]int)
		}
		l.extends[id][extendContent(e)]++
	}
}
