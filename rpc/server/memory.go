package server

import (
	"context"
	"time"
)

const (
	// guaranteedCallers is how many callers have guaranteed memory besides
	// Limits.Memory: as many as are needed to hold all connections.
	guaranteedCallers = 16

	// unreadFor is how long a connection's replies may be unread before the
	// connection is closed for another caller that needs the memory.
	unreadFor = time.Second
)

// A hold is the part of its caller's memory that one connection holds.
type hold struct {
	*caller
	drop func() error // closes the connection

	// Under all.mu.
	bytes       int64
	unreadSince time.Time // since when it holds something and the caller reads nothing
	closed      bool      // by closeUnread
}

// charge charges n bytes, or gives back -n; it returns false if that is too much.
func (h *hold) charge(n int64) bool {
	if n == 0 {
		return true
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.closed || n > 0 && !h.all.mayHold(h.caller, n) {
		return n < 0
	}
	h.add(n)
	return true
}

// await charges n bytes as soon as the caller may hold them. It returns false where that
// takes too long.
func (h *hold) await(ctx context.Context, n int64) bool {
	return h.awaitUntil(ctx, func() bool {
		if !h.all.mayHold(h.caller, n) {
			return false
		}
		h.add(n)
		return true
	})
}

// awaitReading waits while the caller holds so much that no long reply should be made for
// it. It returns false where that takes too long.
func (h *hold) awaitReading(ctx context.Context) bool {
	return !h.holdsMuch() || h.awaitUntil(ctx, func() bool { return !h.holdsMuch() })
}

// awaitUntil waits until done, which it calls under all.mu, returns true. It gives up once
// the caller has held something for Limits.Write and read nothing of it: then its
// connections are closed too. A caller that holds nothing waits as long for others.
func (h *hold) awaitUntil(ctx context.Context, done func() bool) bool {
	a, began := h.all, time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for !h.closed && !done() {
		since := began
		if h.memory.Load() > 0 {
			since = h.read
		}
		if time.Since(since) >= a.limits.Write {
			return false
		}
		if a.freed == nil {
			a.freed = make(chan struct{})
		}
		freed := a.freed
		a.mu.Unlock()
		timer := time.NewTimer(min(unreadFor, a.limits.Write)) // mayHold closes what is unread
		select {
		case <-freed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		a.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
	return !h.closed
}

// refund gives back the n bytes that were charged for a call that is answered now.
func (h *hold) refund(n int64) {
	if n == 0 {
		return
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.closed {
		return
	}
	h.add(-n)
	h.unreadSince = time.Now()
	h.read = h.unreadSince
}

func (h *hold) add(n int64) {
	if h.bytes == 0 {
		h.unreadSince = time.Now()
		h.all.holds[h] = struct{}{}
	}
	if h.bytes += n; h.memory.Add(n) == n {
		h.read = time.Now() // it held nothing before
	}
	h.all.memory += n
	if h.bytes == 0 {
		delete(h.all.holds, h)
	}
	if n < 0 && h.all.freed != nil {
		close(h.all.freed)
		h.all.freed = nil
	}
}

// mayHold reports whether a caller may hold n bytes more. A caller that holds no more
// than is guaranteed gets them while there are no more than guaranteedCallers, and
// after that if another one doesn't read.
func (a *callers) mayHold(c *caller, n int64) bool {
	held := c.memory.Load() + n
	switch {
	case held > a.limits.CallerMemory:
		return false
	case a.memory+n <= a.limits.Memory:
		return true
	case held > a.limits.guaranteed():
		return false
	}
	most := a.limits.total()
	for a.memory+n > most && a.closeUnread() {
	}
	return a.memory+n <= most
}

// closeUnread closes one connection: of the callers that don't read, it takes the one
// that holds most, and of that one's connections the one that is unread for longest.
// It returns false if there is none. What the connection held is free at once, for
// its goroutines, which wait for the peer, end now.
func (a *callers) closeUnread() bool {
	var worst *hold
	for h := range a.holds {
		if time.Since(h.unreadSince) >= unreadFor && (worst == nil || h.worseThan(worst)) {
			worst = h
		}
	}
	if worst == nil {
		return false
	}
	worst.add(-worst.bytes)
	worst.closed = true
	a.dropped.Add(1)
	go worst.drop() // which waits for those goroutines
	return true
}

func (h *hold) worseThan(than *hold) bool {
	if mine, its := h.memory.Load(), than.memory.Load(); mine != its {
		return mine > its
	}
	return h.unreadSince.Before(than.unreadSince)
}
