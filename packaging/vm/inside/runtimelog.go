package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

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

// readStates are the values that RTMR3 has had, by that log.
func readStates() ([]hw.Digest, error) {
	events, err := readRuntimeLog()
	states := make([]hw.Digest, 1, len(events)+1)
	for _, e := range events {
		states = append(states, states[len(states)-1].Extend(e.Digest()))
	}
	return states, err
}
