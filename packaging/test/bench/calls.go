package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cima-project/cima/rpc"
)

// call is a request to a server.
type call struct{ kind, request, answer string }

// line is a call to our daemon, as bytes that are prepared once.
func line(method, params string) call {
	return call{"line", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params), `{"jsonrpc":"2.0","id":1,"result":`}
}

var ping = call{"line", "", "\n"}

func (c call) order(s *stage, server string) order {
	return order{Kind: c.kind, Path: s.socketOf(server), Request: c.request, Answer: c.answer}
}

func (s *stage) measurement() call {
	return line(rpc.MethodGetCCMeasurement, fmt.Sprintf(`{"index":%d}`, s.index))
}

// measurement is one row of the report.
type measurement struct {
	name        string
	connections int
	connect     bool
	rounds      int // at most; 0: no limit
	runs        []run
}

// run is one of the servers and clients that a row compares.
type run struct {
	as     string
	server string
	call   call
}

const nonce = `{"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`

// calls compares the daemon's calls with the limit and with gRPC, on one to a
// thousand connections.
func calls(ctx context.Context, p plan, into *part) error {
	s, err := newStage(ctx, p, []*daemon{{name: "cima"}})
	if err != nil {
		return err
	}
	defer s.close()
	raw := run{"raw", "raw", ping}
	peer := run{"gRPC", "grpc", call{kind: "grpc"}}
	ours := run{"cima", "cima", s.measurement()}
	client := run{"cima, Go client", "cima", call{kind: "go", request: fmt.Sprint(s.index)}}
	only := func(method, params string) []run { return []run{{"cima", "cima", line(method, params)}} }
	err = s.measure(ctx, p, into, []measurement{
		{name: rowOne, connections: 1, runs: []run{raw, ours, client, peer}},
		{name: row64, connections: 64, runs: []run{raw, ours, client, peer}},
		{name: rowConnect, connections: 1, connect: true, runs: []run{raw, ours, client, peer}},
		{name: "GetCCMeasurement, 1,000 connections", connections: 1000, rounds: 5, runs: []run{raw, ours, peer}},
		{name: "GetCCReport, 1 connection", connections: 1, rounds: 5, runs: append(only(rpc.MethodGetCCReport, nonce), run{"gRPC", "grpc", call{kind: "grpc", request: "report"}})},
		{name: "GetCCReport, 64 connections", connections: 64, rounds: 5, runs: append(only(rpc.MethodGetCCReport, nonce), run{"gRPC", "grpc", call{kind: "grpc", request: "report"}})},
		{name: "GetEvidence, 1 connection", connections: 1, rounds: 5, runs: only(rpc.MethodGetEvidence, nonce)},
		{name: "GetEvidence, 64 connections", connections: 64, rounds: 5, runs: only(rpc.MethodGetEvidence, nonce)},
		{name: "GetMeasurements, 1 connection", connections: 1, rounds: 5, runs: only(rpc.MethodGetMeasurements, "{}")},
		{name: "WhoAmI, 1 connection", connections: 1, rounds: 5, runs: only(rpc.MethodWhoAmI, "{}")},
	})
	into.Memory = memoryOf(s)
	return err
}

// wholeLog reads the whole event log, all of its pages.
func wholeLog(ctx context.Context, p plan, into *part) error {
	s, err := newStage(ctx, p, []*daemon{{name: "log", more: filled}})
	if err != nil {
		return err
	}
	defer s.close()
	if s.host {
		say("the log of a container isn't measured: there is none")
		return nil
	}
	had := 0
	for _, n := range []int{100, 10_000} {
		if err := s.extend(ctx, "log", had, n-had); err != nil {
			return err
		}
		had = n
		runs := []run{
			{"cima, Go client", "log", call{kind: "golog"}},
			{"cima", "log", call{kind: "log", answer: `{"jsonrpc":"2.0","id":1,"result":`}},
			{"gRPC", "grpc", call{kind: "grpclog", request: fmt.Sprint(n)}},
		}
		if err := s.measure(ctx, p, into, []measurement{{name: rowLog(n), connections: 1, runs: runs}}); err != nil {
			return err
		}
	}
	into.Memory = memoryOf(s)
	return nil
}

// scale measures daemons that hold little and much.
func scale(ctx context.Context, p plan, into *part) error {
	daemons := []*daemon{
		{name: "small", more: filled},
		{name: "middle", more: filled, events: 10_000, containers: p.crowd / 10},
		{name: "large", more: filled, events: p.many, containers: p.crowd},
	}
	s, err := newStage(ctx, p, daemons)
	if err != nil {
		return err
	}
	defer s.close()
	into.Notes = append(into.Notes, fmt.Sprintf("small: 100 events, 1 container; middle: 10,000 events, %d containers; large: %d events, %d containers", p.crowd/10, p.many, p.crowd))
	for _, d := range daemons {
		if s.host {
			break
		}
		if err := s.extend(ctx, d.name, 0, 96); err != nil { // as many events as a start logs: about 100
			return err
		}
	}
	s.waitIdle(ctx)
	each := func(c call) (runs []run) {
		for _, d := range daemons {
			runs = append(runs, run{d.name, d.name, c})
		}
		return runs
	}
	err = s.measure(ctx, p, into, []measurement{
		{name: rowScale, connections: 1, runs: each(s.measurement())},
		{name: "GetCCMeasurement, 64 connections, by what is held", connections: 64, runs: each(s.measurement()), rounds: 5},
		{name: "GetCCEventLog, first 100 records, by what is held", connections: 1, runs: each(line(rpc.MethodGetCCEventLog, `{"count":100}`)), rounds: 5},
		{name: "GetCCReport, by what is held", connections: 1, runs: each(line(rpc.MethodGetCCReport, nonce)), rounds: 5},
	})
	into.Memory = memoryOf(s)
	return err
}

// waitIdle waits until the daemons have measured what they found, for two
// minutes at most. Five idle seconds in a row are asked for: a daemon looks
// again at what it found at its start, some seconds later.
func (s *stage) waitIdle(ctx context.Context) {
	idle := 0
	for range 120 {
		busy := time.Duration(0)
		for _, d := range s.daemons {
			busy -= cpuTime(d.pid)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		for _, d := range s.daemons {
			busy += cpuTime(d.pid)
		}
		if idle++; busy >= 20*time.Millisecond {
			idle = 0
		}
		if idle == 5 {
			return
		}
	}
}

// measure runs all of a row in turn, in an order that changes from round to
// round.
func (s *stage) measure(ctx context.Context, p plan, into *part, all []measurement) error {
	into.Where = s.where
	for _, m := range all {
		if !strings.Contains(m.name, p.only) {
			continue
		}
		if p.hold > 0 {
			r := m.runs[min(1, len(m.runs)-1)]
			say("%s: %s is pid %d", m.name, r.as, s.pids[r.server])
			o := r.call.order(s, r.server)
			o.Connections, o.Connect, o.Time = m.connections, m.connect, p.hold
			if _, err := s.driver.ask(ctx, o); err != nil {
				return err
			}
			continue
		}
		rounds := p.rounds
		if m.rounds > 0 {
			rounds = min(rounds, m.rounds)
		}
		row := newRow(m)
		for i := range rounds {
			for turn := range m.runs {
				r := m.runs[(turn+i)%len(m.runs)]
				o := r.call.order(s, r.server)
				o.Connections, o.Connect, o.Time = m.connections, m.connect, p.time
				before := cpuTime(s.pids[r.server])
				got, err := s.driver.ask(ctx, o)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", m.name, r.as, err)
				}
				got.Server = float64((cpuTime(s.pids[r.server]) - before).Microseconds()) / float64(got.Answers)
				row.Results[r.as] = append(row.Results[r.as], got)
			}
		}
		into.Rows = append(into.Rows, row)
		say("%s", row.summary())
	}
	return nil
}

// memoryOf is the memory that each server uses, and its peak, in KiB.
func memoryOf(s *stage) map[string]memory {
	all := make(map[string]memory)
	for name, pid := range s.pids {
		all[name] = memory{Now: statusKiB(pid, "VmRSS:"), Peak: statusKiB(pid, "VmHWM:")}
	}
	return all
}
