package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

func TestHalfClosedStillAnswered(t *testing.T) {
	w := connect(t, start(t, testServer()))
	w.send(strings.Repeat(`{"jsonrpc":"2.0","id":7,"method":"Echo"}`+"\n", 3) + `{"jsonrpc"`)
	w.nc.CloseWrite()
	for range 3 {
		if r := w.receive(); r.Error != nil {
			t.Error(r.Error)
		}
	}
	if r := w.receive(); r.Error == nil || r.Error.Code != rpc.CodeParseError || r.ID != nil {
		t.Errorf("half a line: %+v", r)
	}
	w.ends()
}

func TestHangingUpCancels(t *testing.T) {
	s := testServer()
	began, ended := make(chan struct{}), make(chan struct{})
	s.Before = func(context.Context, string) error { close(began); return nil }
	s.After = func(context.Context, string, time.Duration, *rpc.Error, error) { close(ended) }
	w := connect(t, start(t, s))
	w.send(`{"jsonrpc":"2.0","id":7,"method":"Wait"}` + "\n")
	<-began // a call that was not started is forgotten
	w.nc.Close()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the handler went on")
	}
}

// A slow call delays no other call of its connection, and a caller that waits
// for its answer is not idle.
func TestSideBySide(t *testing.T) {
	s := testServer()
	s.Limits.Idle = 500 * time.Millisecond
	began, gate := make(chan struct{}), make(chan struct{})
	s.waiting("Gate", func(context.Context, json.RawMessage) (any, error) { close(began); <-gate; return 0, nil })
	w := connect(t, start(t, s))
	w.send(`{"jsonrpc":"2.0","id":1,"method":"Gate"}` + "\n")
	<-began
	if r := w.ask("Echo", `{}`); r.Error != nil || r.ID != 7.0 {
		t.Errorf("next to it: %+v", r)
	}
	time.Sleep(3 * s.Limits.Idle)
	close(gate)
	if r := w.receive(); r.Error != nil || r.ID != 1.0 {
		t.Errorf("the slow one: %+v", r)
	}
	w.ends()
}

// A caller that has closed its writing half, or sent too many bad lines, still
// gets the answers to its earlier requests.
func TestAnswersBeforeTheEnd(t *testing.T) {
	s := testServer()
	s.waiting("Slow", func(context.Context, json.RawMessage) (any, error) { time.Sleep(100 * time.Millisecond); return 0, nil })
	path := start(t, s)
	for name, bad := range map[string]int{"half closed": 0, "bad lines": maxBad} {
		w := connect(t, path)
		w.send(`{"jsonrpc":"2.0","id":1,"method":"Slow"}` + "\n" + strings.Repeat("x\n", bad))
		w.nc.CloseWrite()
		for range bad {
			w.receive()
		}
		if r := w.receive(); r.Error != nil || r.ID != 1.0 {
			t.Errorf("%s: %+v", name, r)
		}
		w.ends()
	}
}

// The limit is exact: so many requests may be open, and one more isn't read until one of
// them is answered.
func TestInFlight(t *testing.T) {
	s := testServer()
	s.Limits = Limits{InFlight: 20, CallerInFlight: 20, CallerCalls: 100, Idle: 10 * time.Second} // idle, the connection ends
	gate := make(chan struct{})
	var open, most atomic.Int32
	s.waiting("Gate", func(context.Context, json.RawMessage) (any, error) {
		if n := open.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-gate
		open.Add(-1)
		return 0, nil
	})
	w := connect(t, start(t, s))
	id := 0
	gated := func(n int) (lines string) {
		for range n {
			id++
			lines += fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"Gate"}`+"\n", id)
		}
		return lines
	}
	w.send(gated(30))
	for range 2_000 { // each answer allows one more request
		select {
		case gate <- struct{}{}:
		case <-time.After(time.Minute):
			t.Fatal("nothing runs")
		}
		if r := w.receive(); r.Error != nil {
			t.Fatal(r.Error)
		}
		w.send(gated(1))
	}
	if n := most.Load(); n != 20 {
		t.Errorf("%d requests were open, the limit is 20", n)
	}
	close(gate)
	for range 30 {
		if r := w.receive(); r.Error != nil {
			t.Fatal(r.Error)
		}
	}
	w.ends()
}

// Long requests that wait for their turn are charged to the caller.
func TestWaitingRequestsAreCharged(t *testing.T) {
	s := testServer()
	s.Limits = Limits{CallerMemory: 1} // raised to two replies and a line
	s.Key = func(context.Context) string { return "me" }
	gate := make(chan struct{})
	opened := sync.OnceFunc(func() { close(gate) })
	s.waiting("Gate", func(context.Context, json.RawMessage) (any, error) { <-gate; return 0, nil })
	path := start(t, s)
	t.Cleanup(opened) // runs before the server is stopped
	var long strings.Builder
	for id := range 16 {
		fmt.Fprintf(&long, `{"jsonrpc":"2.0","id":%d,"method":"Gate","params":{"a":"%s"}}`+"\n", id, strings.Repeat("x", 60<<10))
	}
	var all []*wire
	for range 4 {
		w := connect(t, path)
		// The excess request is refused before all of it is sent.
		w.nc.Write([]byte(long.String()))
		all = append(all, w)
	}
	refused := all[3].receive()
	if refused.Error == nil || refused.Error.Code != rpc.CodeRateLimited {
		t.Errorf("got %+v", refused)
	}
	if held := s.Counts().Memory; held < 1<<20 || held > 2<<20+64<<10 {
		t.Errorf("%d bytes are charged", held)
	}
	opened()
	for _, w := range all {
		w.nc.Close()
	}
	for range 1000 {
		if s.Counts().Memory == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d bytes stay charged", s.Counts().Memory)
}

// A line that can have no result counts against the rate too, and ends the
// connection beyond the rate.
func TestStraysCountAgainstTheRate(t *testing.T) {
	const within = 10
	for name, test := range map[string]struct {
		line    string
		answers int // before the end
		refuse  bool
		code    rpc.Code
	}{
		"no method": {`{"jsonrpc":"2.0","id":1,"method":"x"}`, within + maxBad, false, rpc.CodeMethodNotFound},
		"no JSON":   {"x", maxBad, false, rpc.CodeParseError},
		"refused":   {`{"jsonrpc":"2.0","id":1,"method":"Echo"}`, within + maxBad, true, rpc.CodeUnattributed},
	} {
		t.Run(name, func(t *testing.T) {
			s := testServer()
			var asked atomic.Int32
			s.Before = func(context.Context, string) error {
				if asked.Add(1) > within {
					return rpc.RateLimited(time.Minute, "later")
				}
				return nil
			}
			if test.refuse {
				s.Attach = func(context.Context, *net.UnixConn) (context.Context, func(), error) {
					return nil, nil, rpc.Unattributed("no one")
				}
			}
			w := connect(t, start(t, s))
			for i := range test.answers {
				w.send(test.line + "\n")
				want := test.code
				if i >= within {
					want = rpc.CodeRateLimited
				}
				r := w.receive()
				if r.Error == nil || r.Error.Code != want || want == rpc.CodeRateLimited && r.Error.RetryAfter() != time.Minute {
					t.Fatalf("answer %d: %+v, want %d", i, r.Error, want)
				}
			}
			w.ends()
		})
	}
}
