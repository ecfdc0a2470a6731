package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Calls that wait aside hold no slot: as many as may be in flight wait at once, and others
// of the same caller are answered meanwhile. Afterwards no more run than have a slot.
func TestAside(t *testing.T) {
	const many = 200
	s := testServer()
	s.Key = func(context.Context) string { return "me" }
	var waiting, running, most atomic.Int32
	all, gate := make(chan struct{}), make(chan struct{})
	s.waiting("Quote", func(ctx context.Context, _ json.RawMessage) (any, error) {
		err := Aside(ctx, func() {
			if waiting.Add(1) == many {
				close(all)
			}
			<-gate
		})
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		return "quote", err
	})
	s.waiting("Later", func(context.Context, json.RawMessage) (any, error) { return "done", nil })
	path := start(t, s)
	w := connect(t, path)
	var lines strings.Builder
	for id := range many {
		fmt.Fprintf(&lines, `{"jsonrpc":"2.0","id":%d,"method":"Quote"}`+"\n", id)
	}
	w.send(lines.String())
	<-all
	if r := connect(t, path).ask("Later", "{}"); r.Error != nil {
		t.Errorf("meanwhile: %v", r.Error)
	}
	close(gate)
	for range many {
		if r := w.receive(); r.Error != nil {
			t.Fatal(r.Error)
		}
	}
	if most.Load() > int32(s.limits.CallerCalls) {
		t.Errorf("%d ran at once, with %d slots", most.Load(), s.limits.CallerCalls)
	}
}

// A call that ends while it waits aside gives back no slot that it doesn't have.
func TestAsideOfOneThatLeaves(t *testing.T) {
	c := &caller{calls: make(chan struct{}, 1)}
	s := &slot{of: c}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), slotKey{}, s))
	if err := s.take(ctx); err != nil {
		t.Fatal(err)
	}
	other := &slot{of: c}
	if err := Aside(ctx, func() { other.take(t.Context()); cancel() }); err == nil {
		t.Error("the slot is another's, and yet there is no error")
	}
	s.leave()
	if len(c.calls) != 1 {
		t.Errorf("%d slots are taken, want the other's", len(c.calls))
	}
	other.leave()
	if err := Aside(t.Context(), func() {}); err != nil || len(c.calls) != 0 {
		t.Error(err)
	}
}

// A caller's readers of long replies are slowed, and none is refused, however many they are
// and however little the caller may hold.
func TestReadersAreNeverRefused(t *testing.T) {
	s := hostileServer()
	s.Limits = Limits{CallerMemory: 1} // raised to two replies and a line
	path := start(t, s)
	var readers sync.WaitGroup
	for i := range 40 {
		nc, err := dialAs(path, fmt.Sprintf("reader-%d-never%d", os.Getpid(), i))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		w := connectedTo(&wire{t: t, nc: nc.(*net.UnixConn)})
		readers.Go(func() {
			w.send(strings.Repeat(longLine, 5))
			for range 5 {
				if r := w.receive(); r.Error != nil {
					t.Error(r.Error)
					return
				}
			}
		})
	}
	readers.Wait()
	if held := s.Counts().Memory; held > s.limits.CallerMemory {
		t.Errorf("%d bytes are held", held)
	}
}
