package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// readRuntimeLog reads the daemon's file, and holds the chain of registers in
// it against its events.
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
			return nil, fmt.Errorf("event %d of the log does not follow", i)
		}
		register = next
		events = append(events, e)
	}
	return events, nil
}

// ends looks for containers of docker and podman that are gone, and whose launch
// has no exit: rootless ones are missed where they never called.
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
