package server

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/rpc"
)

// callers counts what all callers hold, and what each one does.
type callers struct {
	limits *Limits

	mu          sync.Mutex
	byKey       map[string]*caller
	holds       map[*hold]struct{} // that hold something
	connections int
	memory      int64
	freed       chan struct{} // closed when memory is given back; nil: nobody waits for that
	unanswered  chan struct{} // a token for each request of caller.unanswered

	accepted, refused, dropped atomic.Uint64
}

// A caller pays for connections.
type caller struct {
	all         *callers
	key         string
	connections int
	memory      atomic.Int64  // changed under all.mu
	read        time.Time     // when it last read a long reply, or began to hold one; under all.mu
	calls       chan struct{} // a token for each handler that runs
	unanswered  chan struct{} // a token for each request sent ahead of sentAhead others
}

// admit counts a new connection; it returns false if there are too many.
func (a *callers) admit() bool {
	a.accepted.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connections >= a.limits.Connections {
		a.refused.Add(1)
		return false
	}
	a.connections++
	return true
}

// leave is called when an admitted connection has ended.
func (a *callers) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connections--
}

// enter charges a connection to a caller; it returns nil if that has too many.
func (a *callers) enter(key string) *caller {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.byKey[key]
	if c == nil {
		c = &caller{all: a, key: key, calls: make(chan struct{}, a.limits.CallerCalls), unanswered: make(chan struct{}, a.limits.CallerInFlight)}
		if key == "" {
			return c // nobody pays, but each connection still has bounds
		}
		a.byKey[key] = c
	}
	if c.connections >= a.limits.CallerConnections {
		a.refused.Add(1)
		return nil
	}
	c.connections++
	return c
}

// leave is called when a charged connection has ended and holds nothing any more.
func (c *caller) leave() {
	if c.key == "" {
		return
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.connections--; c.connections == 0 {
		delete(c.all.byKey, c.key)
	}
}

// holdsMuch reports whether the caller holds so much already that no long reply
// should be made for it.
func (c *caller) holdsMuch() bool { return c.memory.Load() > c.all.limits.CallerMemory/2 }

func (a *callers) counts() rpc.Counts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return rpc.Counts{
		Connections: a.connections,
		Callers:     len(a.byKey),
		Accepted:    a.accepted.Load(),
		Refused:     a.refused.Load(),
		Dropped:     a.dropped.Load(),
		Memory:      a.memory,
	}
}
