package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// resources are what the daemon and the TD use.
type resources struct {
	fds, goroutines, connections int
	memory                       int64 // resident bytes
	events                       int
	tdFDs                        int
}

// resources reads the daemon's metrics.
func (b *boot) resources(ctx context.Context) (r resources, err error) {
	c, err := b.admin(ctx)
	if err != nil {
		return r, err
	}
	defer c.Close()
	text, err := c.Metrics(ctx)
	if err != nil {
		return r, err
	}
	value := make(map[string]float64)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, number, _ := strings.Cut(lines.Text(), " ")
		value[name], _ = strconv.ParseFloat(number, 64)
	}
	for _, name := range []string{"cima_process_open_fds", "cima_goroutines", "cima_process_resident_memory_bytes", "cima_log_events_total"} {
		if value[name] == 0 {
			return r, fmt.Errorf("the daemon's metrics must have %s", name)
		}
	}
	r = resources{
		fds: int(value["cima_process_open_fds"]), goroutines: int(value["cima_goroutines"]),
		connections: int(value["cima_connections"]), memory: int64(value["cima_process_resident_memory_bytes"]),
		events: int(value["cima_log_events_total"]),
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.manager.td.Process.Pid))
	r.tdFDs = len(open)
	return r, err
}

// Tolerances: other containers come and go on the machine.
const (
	slackFDs        = 12
	slackGoroutines = 12
	slackMemory     = 48 << 20 // memory that the collector retains after large replies
	perEvent        = 1 << 10  // bytes of memory for an event in the log
)

// leaks compares what the daemon uses when idle with what it used before.
func (b *boot) leaks(ctx context.Context, before resources) {
	var now resources
	var err error
	var most int64
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		if now, err = b.resources(ctx); err != nil {
			b.tally.violate("the idle daemon does not tell what it holds: %v", err)
			return
		}
		most = before.memory + slackMemory + int64(now.events-before.events)*perEvent
		idle := now.fds <= before.fds+slackFDs && now.goroutines <= before.goroutines+slackGoroutines &&
			now.connections == 0 && now.memory <= most && now.tdFDs <= before.tdFDs+2
		if idle || time.Now().After(end) || ctx.Err() != nil {
			break
		}
	}
	for _, leak := range []struct {
		what             string
		was, is, allowed int64
	}{
		{"descriptors", int64(before.fds), int64(now.fds), int64(before.fds + slackFDs)},
		{"goroutines", int64(before.goroutines), int64(now.goroutines), int64(before.goroutines + slackGoroutines)},
		{"connections", int64(before.connections), int64(now.connections), 0},
		{"bytes of memory", before.memory, now.memory, most},
		{"descriptors of the TD", int64(before.tdFDs), int64(now.tdFDs), int64(before.tdFDs + 2)},
	} {
		if leak.is > leak.allowed && ctx.Err() == nil {
			b.tally.violate("the idle daemon holds %d %s; it began with %d", leak.is, leak.what, leak.was)
		}
	}
	b.tally.note("boot %d, idle after %d events: descriptors %d → %d, goroutines %d → %d, memory %d → %d MiB, TD's descriptors %d → %d",
		b.number, now.events, before.fds, now.fds, before.goroutines, now.goroutines, before.memory>>20, now.memory>>20, before.tdFDs, now.tdFDs)
}
