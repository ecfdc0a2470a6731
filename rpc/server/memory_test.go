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
	"time"

	"github.com/cima-project/cima/rpc"
)

const longLine = `{"jsonrpc":"2.0","id":1,"method":"Long"}` + "\n"

// Callers that request long replies on many connections, read nothing, and
// connect again when they are closed, deny no reply of full length to a caller
// that reads: not at all if they are fewer than sixteen, otherwise until they
// have not read for a while.
func TestUnreadRepliesOfMany(t *testing.T) {
	for _, test := range []struct {
		callers, connections int
		felt                 bool // until the callers have not read for a while
	}{{4, 20, false}, {15, 5, false}, {60, 4, true}} {
		t.Run(fmt.Sprint(test.callers), func(t *testing.T) {
			s := beginSiege(t)
			s.most = 192 << 10 // it may hold 34 MiB, and as much again until the garbage is collected
			s.fill(test.callers, test.connections)
			time.Sleep(300 * time.Millisecond)
			refused := 0
			for i := range 20 {
				for {
					w := connectedTo(s.as(fmt.Sprintf("reader%d", i)))
					w.send(longLine)
					line, err := w.in.ReadSlice('\n')
					w.nc.Close()
					if err != nil && test.felt { // on a busy machine this reader, too, may not have read for a while
						continue
					}
					r := decode(t, line, err)
					if r.Error == nil {
						break
					}
					refused++
					if r.Error.Code != rpc.CodeRateLimited || !test.felt {
						t.Fatalf("%d refused before: %v", refused, r.Error)
					}
					time.Sleep(50 * time.Millisecond)
				}
				time.Sleep(50 * time.Millisecond)
			}
			t.Logf("20 replies of 1 MiB, %d refused", refused)
		})
	}
}

// fill has n callers hold everything that they get, until the test ends.
func (s *siege) fill(callers, connections int) {
	done := make(chan struct{})
	var all sync.WaitGroup
	var n atomic.Int64
	for i := range callers {
		for range connections {
			all.Go(func() {
				for {
					name := fmt.Sprintf("unread%d-%d-fill%d", i, s.pid, n.Add(1))
					nc, err := dialAs(s.path, name)
					if err != nil {
						s.t.Error(err)
						return
					}
					nc.Write([]byte(strings.Repeat(longLine, 3)))
					select {
					case <-done:
					case <-time.After(1500 * time.Millisecond):
					}
					nc.Close()
					select {
					case <-done:
						return
					default:
					}
				}
			})
		}
	}
	s.t.Cleanup(func() { close(done); all.Wait() })
}

// Unread connections are closed: of the caller that holds most, the one that is
// unread for longest. Everything that they held is released.
func TestUnreadForLongestIsClosed(t *testing.T) {
	s := hostileServer()
	s.Limits = Limits{Memory: 1, CallerMemory: 1, Write: time.Minute} // raised to two replies and a line
	path := start(t, s)
	n := 0
	as := func(name string) *wire {
		n++
		nc, err := dialAs(path, fmt.Sprintf("%s-%d-closed%d", name, os.Getpid(), n))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return connectedTo(&wire{t: t, nc: nc.(*net.UnixConn)})
	}
	holds := func(replies int) {
		t.Helper()
		for range 1000 {
			if s.Counts().Memory >= int64(replies)<<20 {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("%d bytes are held, not %d replies", s.Counts().Memory, replies)
	}
	var greedy []*wire
	began := time.Now()
	for i := range 2 {
		greedy = append(greedy, as("greedy"))
		greedy[i].send(longLine)
		holds(i + 1)
		time.Sleep(50 * time.Millisecond)
	}
	var others []*wire
	for i := 0; s.Counts().Memory+1<<20 <= s.limits.total(); i++ {
		w := as(fmt.Sprint("other", i))
		w.send(longLine)
		others = append(others, w)
		holds(3 + i)
	}
	if len(others) < guaranteedCallers {
		t.Errorf("room for %d, in addition to the shared memory", len(others))
	}
	r := as("soon").ask("Long", "{}")
	// If all this took that long, the first is unread for long enough.
	if (r.Error == nil || r.Error.Code != rpc.CodeRateLimited) && time.Since(began) < unreadFor {
		t.Errorf("while no connection has been unread for long: %+v", r)
	}
	time.Sleep(unreadFor)
	if r := as("reader").ask("Long", "{}"); r.Error != nil {
		t.Error(r.Error)
	}
	for i, closed := range []bool{true, false} {
		line, err := greedy[i].in.ReadSlice('\n')
		if (err != nil) != closed {
			t.Errorf("connection %d, closed should be %v: %d bytes, %v", i, closed, len(line), err)
		}
	}
	for _, w := range others {
		if r := w.receive(); r.Error != nil {
			t.Error(r.Error)
		}
	}
	for range 1000 {
		if s.Counts().Memory == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d bytes stay charged", s.Counts().Memory)
}

// A caller that reads is not unread, however long it has held a reply.
func TestReadingIsNotUnread(t *testing.T) {
	a := &callers{limits: &Limits{Memory: 100, CallerMemory: 100}, holds: make(map[*hold]struct{})}
	h := &hold{caller: &caller{all: a}, drop: func() error { t.Error("closed"); return nil }}
	if !h.charge(10) {
		t.Fatal("no room")
	}
	h.unreadSince = h.unreadSince.Add(-2 * unreadFor)
	h.refund(5)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closeUnread() || h.closed || a.memory != 5 {
		t.Errorf("gone: %t, held: %d", h.closed, a.memory)
	}
}

// Unsent is called for a result that isn't sent for lack of memory.
type paidFor struct {
	Text   string
	unsent *atomic.Int32
}

func (p paidFor) Unsent() { p.unsent.Add(1) }

func TestUnsentIsCalled(t *testing.T) {
	s := hostileServer()
	s.Limits = Limits{CallerMemory: 1, Write: time.Second} // raised to two replies and a line
	var unsent atomic.Int32
	began, gate := make(chan struct{}, 3), make(chan struct{})
	s.waiting("Paid", func(context.Context, json.RawMessage) (any, error) {
		began <- struct{}{}
		<-gate
		return paidFor{strings.Repeat("x", 1<<20-100), &unsent}, nil
	})
	path := start(t, s)
	for i := range 3 {
		nc, err := dialAs(path, fmt.Sprintf("payer-%d-unsent%d", os.Getpid(), i))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write([]byte(`{"jsonrpc":"2.0","id":1,"method":"Paid"}` + "\n"))
		<-began
	}
	close(gate)
	for range 1000 {
		if unsent.Load() == 1 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("Unsent was called for %d results, must be 1", unsent.Load())
}

// Replies that a caller does not read, and lines that it does not end, are held
// up to its limit, and other callers get their replies.
func TestCallerMemory(t *testing.T) {
	s := hostileServer()
	s.Limits = Limits{CallerMemory: 1} // raised to two replies and a line
	path := start(t, s)
	as := func(name string) *wire {
		nc, err := dialAs(path, fmt.Sprintf("%s-%d-%d", name, os.Getpid(), time.Now().UnixNano()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return connectedTo(&wire{t: t, nc: nc.(*net.UnixConn)})
	}
	const large = `{"jsonrpc":"2.0","id":1,"method":"Large"}` + "\n"
	for range 2 {
		as("greedy").send(large)
	}
	for s.Counts().Memory < 2<<20 {
		time.Sleep(time.Millisecond)
	}
	w := as("greedy")
	if r := w.ask("Echo", "{}"); r.Error == nil || r.Error.Code != rpc.CodeRateLimited {
		t.Errorf("a third: %+v", r)
	}
	w = as("greedy") // the others may be closed by now: they were not read for so long
	w.send(strings.Repeat("x", 40<<10))
	if r := w.receive(); r.Error == nil || r.Error.Code != rpc.CodeTooLarge && r.Error.Code != rpc.CodeRateLimited {
		t.Errorf("a long line: %+v", r)
	}
	w.ends()
	v := as("other")
	v.send(large)
	if r := v.receive(); r.Error != nil {
		t.Errorf("another caller: %v", r.Error)
	}
}
