package server

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

const quickLine = `{"jsonrpc":"2.0","id":2,"method":"Quick","params":{}}` + "\n"

// quickServer has inline methods that count how they were answered, and one
// that occupies its connection's jrpc2 for as long as the test needs.
func quickServer() (s *Server, inline, waited *atomic.Int32, gate chan struct{}) {
	s, inline, waited, gate = testServer(), new(atomic.Int32), new(atomic.Int32), make(chan struct{})
	quick := func(ctx context.Context, _ json.RawMessage) (any, error) {
		if MayWait(ctx) == nil {
			waited.Add(1)
		} else {
			inline.Add(1)
		}
		return "done", nil
	}
	s.inline("Quick", quick)
	s.inline("Unsure", func(ctx context.Context, p json.RawMessage) (any, error) {
		if strings.Contains(string(p), "wait") {
			if err := MayWait(ctx); err != nil {
				return nil, err
			}
		}
		return quick(ctx, p)
	})
	s.waiting("Gate", func(ctx context.Context, _ json.RawMessage) (any, error) {
		select {
		case <-gate:
			return "open", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	return s, inline, waited, gate
}

func (w *wire) gets(id float64, result string) {
	w.t.Helper()
	if r := w.receive(); r.Error != nil || r.ID != id || string(r.Result) != result {
		w.t.Errorf("got %v %s %+v, want %v %s", r.ID, r.Result, r.Error, id, result)
	}
}

// A connection that makes one request after the other costs one goroutine, and
// jrpc2 is started for the first call that waits.
func TestInlineNeedsNoJRPC2(t *testing.T) {
	s, inline, waited, _ := quickServer()
	path := start(t, s)
	first := connect(t, path)
	first.ask("Quick", "{}")
	before := runtime.NumGoroutine()
	for range 20 {
		w := connect(t, path)
		w.send(quickLine)
		w.gets(2, `"done"`)
		w.ask("NoSuchMethod", "{}")
	}
	if n := runtime.NumGoroutine() - before; n > 20 {
		t.Errorf("20 connections took %d goroutines", n)
	}
	if inline.Load() != 21 || waited.Load() != 0 {
		t.Errorf("%d inline, %d not", inline.Load(), waited.Load())
	}
	first.ask("Unsure", `{"a":"wait"}`)
	// the next request may find the other's answer still in progress
	for range 10 {
		first.ask("Quick", "{}")
	}
	if n := inline.Load(); n < 22 || n+waited.Load() != 32 {
		t.Errorf("afterwards: %d inline, %d not", n, waited.Load())
	}
	if n := runtime.NumGoroutine() - before; n <= 20 {
		t.Errorf("jrpc2 took %d goroutines: does it serve?", n-20)
	}
}

// A quick call next to a slow one is answered first, by jrpc2.
func TestQuickBesideSlow(t *testing.T) {
	s, inline, waited, gate := quickServer()
	w := connect(t, start(t, s))
	w.send(`{"jsonrpc":"2.0","id":1,"method":"Gate"}` + "\n")
	for range 3 {
		w.send(quickLine)
		w.gets(2, `"done"`)
	}
	if inline.Load() != 0 || waited.Load() != 3 {
		t.Errorf("%d inline next to a slow one, %d not", inline.Load(), waited.Load())
	}
	close(gate)
	w.gets(1, `"open"`)
}

// Each line that is sent ahead gets one answer, in any order, and counts
// against the limit.
func TestPipelinedMix(t *testing.T) {
	s, inline, waited, gate := quickServer()
	close(gate)
	w := connect(t, start(t, s))
	for range 200 {
		want := make(map[any]bool)
		var lines strings.Builder
		for id := range 12 {
			method := []string{"Quick", "Gate", "Unsure", "NoSuchMethod"}[id%4]
			fmt.Fprintf(&lines, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"a":"%s"}}`+"\n", id, method, []string{"", "wait"}[id%2])
			want[float64(id)] = true
		}
		w.send(lines.String())
		for range 12 {
			r := w.receive()
			if !want[r.ID] {
				t.Fatalf("answer to %v: twice, or never asked", r.ID)
			}
			delete(want, r.ID)
			if unknown := int(r.ID.(float64))%4 == 3; (r.Error != nil) != unknown {
				t.Fatalf("%v: %+v", r.ID, r.Error)
			}
		}
	}
	if n := inline.Load() + waited.Load(); n != 200*6 {
		t.Errorf("%d calls were carried out, not %d", n, 200*6)
	}
}

// Before is called once for each call, inline or not.
func TestAdmittedOnce(t *testing.T) {
	s, _, waited, _ := quickServer()
	var before, after atomic.Int32
	s.Before = func(context.Context, string) error { before.Add(1); return nil }
	s.After = func(_ context.Context, _ string, _ time.Duration, refused *rpc.Error, _ error) {
		if refused == nil {
			after.Add(1)
		}
	}
	w := connect(t, start(t, s))
	for i := range 10 {
		w.ask("Unsure", fmt.Sprintf(`{"a":"%s"}`, []string{"", "wait"}[i%2]))
	}
	if before.Load() != 10 || after.Load() != 10 || waited.Load() < 5 {
		t.Errorf("Before was called %d times, After %d times, for 10 calls; %d waited", before.Load(), after.Load(), waited.Load())
	}
	refuse := connect(t, start(t, func() *Server {
		s, _, _, _ := quickServer()
		s.Before = func(context.Context, string) error { return rpc.Denied("no") }
		return s
	}()))
	if r := refuse.ask("Quick", "{}"); r.Error == nil || r.Error.Code != rpc.CodeDenied {
		t.Errorf("refused by Before: %+v", r)
	}
}

// When a caller has as many slow calls as it may, further slow ones wait, on
// any connection, and quick ones don't.
func TestCallerCallsBoundsTheSlow(t *testing.T) {
	s, _, _, gate := quickServer()
	s.Limits.CallerCalls = 2
	s.Key = func(context.Context) string { return "me" }
	running := make(chan struct{}, 10)
	s.waiting("Slow", func(context.Context, json.RawMessage) (any, error) { running <- struct{}{}; <-gate; return "open", nil })
	path := start(t, s)
	var all []*wire
	for range 3 {
		w := connect(t, path)
		w.send(`{"jsonrpc":"2.0","id":1,"method":"Slow"}` + "\n")
		all = append(all, w)
	}
	<-running
	<-running
	quick := connect(t, path)
	quick.send(quickLine)
	quick.gets(2, `"done"`)
	select {
	case <-running:
		t.Error("a third one runs")
	case <-time.After(50 * time.Millisecond):
	}
	close(gate)
	for _, w := range all {
		w.gets(1, `"open"`)
	}
}

// A server that stops waits for an inline call.
func TestDrainWaitsForTheQuick(t *testing.T) {
	s, _, _, _ := quickServer()
	s.Limits.Drain = 3 * time.Second
	running, finish := make(chan struct{}), make(chan struct{})
	s.inline("Quick", func(context.Context, json.RawMessage) (any, error) { close(running); <-finish; return "done", nil })
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, s, path)
	w, other := connect(t, path), connect(t, path)
	other.ask("Echo", "{}")
	w.send(quickLine)
	<-running
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	for !s.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	if r := other.ask("Quick", "{}"); r.Error == nil || r.Error.Code != rpc.CodeShuttingDown {
		t.Errorf("a new request: %+v", r)
	}
	select {
	case <-stopped:
		t.Error("stopped under a call")
	case <-time.After(50 * time.Millisecond):
	}
	close(finish)
	w.gets(2, `"done"`)
	<-stopped
	w.ends()
}

// An inline call allocates little more than its handler does.
func TestInlineAllocates(t *testing.T) {
	if raceDetector() {
		t.Log("the race detector allocates: the figure is shown only")
	}
	s := testServer()
	s.inline("Quick", func(context.Context, json.RawMessage) (any, error) { return json.RawMessage("1"), nil })
	s.once.Do(s.setUp)
	charged := s.callers.enter("tape")
	defer charged.leave()
	nc, line := new(tape), []byte(quickLine)
	c := s.newConn(context.Background(), nc, charged)
	n := testing.AllocsPerRun(1000, func() {
		nc.pieces = append(nc.pieces[:0], line)
		nc.out.Reset()
		c.serve()
	})
	t.Logf("%.0f allocations for a call", n)
	if n > 4 && !raceDetector() {
		t.Errorf("%.0f allocations", n)
	}
}
