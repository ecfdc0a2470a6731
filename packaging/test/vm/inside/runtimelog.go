package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// readRuntimeLog reads the daemon's file, and checks its chain of registers
// against its events.
func readRuntimeLog() (events []logs.Event, err error) {
	file, err := os.ReadFile(runtimeLog)
	if err != nil {
		return nil, err
	}
	whole := file[:bytes.LastIndexByte(file, '\n')+1] // a line may be half written
	lines := bytes.Split(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
	var register hw.Digest
	for i, line := range lines[1:] {
		var r struct {
			Before, After string
			Event         []byte
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		e, err := logs.ParseEvent(r.Event)
		if err != nil {
			return nil, err
		}
		next := register.Extend(e.Digest())
		if r.Before != register.String() || r.After != next.String() {
			return nil, fmt.Errorf("event %d of the log must follow from those before it", i)
		}
		register = next
		events = append(events, e)
	}
	return events, nil
}

// usersEnd has a rootless container call once, and end after a restart of
// cimad: its exit is checked with the others.
func usersEnd(ctx context.Context, w *world) error {
	if err := alices.image(ctx); err != nil {
		return err
	}
	const name = "outlives-cimad"
	run := alices.cmd(ctx, alices.begin([]string{"--rm", "--name", name}, "/bin/busybox", "sleep", "600")...)
	if err := run.Start(); err != nil { // not -d: conmon would end with the unit that started it
		return err
	}
	defer func() {
		finish(alices.cmd(ctx, "rm", "-f", "-t", "0", name))
		run.Wait()
	}()
	id, err := alices.runs(ctx, name)
	if err != nil {
		return err
	}
	who, err := finish(alices.cmd(ctx, "exec", name, "/cimactl", "whoami"))
	if err != nil {
		return err
	}
	if !strings.Contains(who, id) {
		return fmt.Errorf("whoami prints %s", who)
	}
	if _, err := command(ctx, "systemctl", "restart", "cimad.service"); err != nil {
		return err
	}
	time.Sleep(10 * time.Second) // for two surveys of what runs
	events, err := readRuntimeLog()
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Operation == logs.OpExit && strings.HasSuffix(e.Container, id) {
			return errors.New("the log has an exit of a container that runs")
		}
	}
	return nil
}

// ends checks that each launch of a container that is gone has an exit.
func ends(ctx context.Context, w *world) error {
	var open map[string]bool
	for range 40 {
		events, err := readRuntimeLog()
		if err != nil {
			return err
		}
		launches := 0
		open = map[string]bool{}
		for _, e := range events {
			switch e.Operation {
			case logs.OpLaunch:
				open[e.Container] = true
				launches++
			case logs.OpExit:
				delete(open, e.Container)
			}
		}
		if len(open) == 0 && launches > 0 {
			w.note("%d launches", launches)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
	return fmt.Errorf("no exit of %v", slices.Collect(maps.Keys(open)))
}

// readStates are the values that RTMR3 has had, by that log.
func readStates() ([]hw.Digest, error) {
	events, err := readRuntimeLog()
	states := make([]hw.Digest, 1, len(events)+1)
	for _, e := range events {
		states = append(states, states[len(states)-1].Extend(e.Digest()))
	}
	return states, err
}
