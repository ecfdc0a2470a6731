package server

import "time"

const (
	// shares is how many callers' shares are kept beside Limits.Memory: as
	// many as it takes to have all connections there are.
	shares = 16

	// unreadFor is how long what a connection holds may be unread before
	// somebody else's need of the room closes it.
	unreadFor = time.Second
)

// A hold is what one connection holds of its caller's memory.
type hold struct {
	*caller
	drop func() error // closes the connection

	// Under all.mu.
	bytes int64
	since time.Time // it holds something, and has had nothing read
	gone  bool      // closed for the room that it held
}

// take charges n bytes, or gives back -n; false where there is too much.
func (h *hold) take(n int64) bool {
	if n == 0 {
		return true
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.gone || n > 0 && !h.all.room(h.caller, n) {
		return n < 0
	}
	h.add(n)
	return true
}

// giveBack ends what calls of take charged for a call that is answered.
func (h *hold) giveBack(n int64) {
	if n == 0 {
		return
	}
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.gone {
		return
	}
	h.add(-n)
	h.since = time.Now()
}

func (h *hold) add(n int64) {
	if h.bytes == 0 {
		h.since = time.Now()
		h.all.holds[h] = struct{}{}
	}
	h.bytes += n
	h.memory.Add(n)
	h.all.memory += n
	if h.bytes == 0 {
		delete(h.all.holds, h)
	}
}

// room reports whether a caller may hold n bytes more. One that would hold no
// more than a share gets them as long as there are fewer than so many others,
// and after that if somebody doesn't read.
func (a *callers) room(c *caller, n int64) bool {
	held := c.memory.Load() + n
	switch {
	case held > a.limits.CallerMemory:
		return false
	case a.memory+n <= a.limits.Memory:
		return true
	case held > a.limits.share():
		return false
	}
	most := a.limits.most()
	for a.memory+n > most && a.close() {
	}
	return a.memory+n <= most
}

// close closes the connection that is unread for longest of the caller who
// holds most of those who don't read; false where there is none. What it held
// is free at once: its goroutines, which wait for the peer, give it up now.
func (a *callers) close() bool {
	var worst *hold
	for h := range a.holds {
		if time.Since(h.since) >= unreadFor && (worst == nil || h.worse(worst)) {
			worst = h
		}
	}
	if worst == nil {
		return false
	}
	worst.add(-worst.bytes)
	worst.gone = true
	a.dropped.Add(1)
	go worst.drop() // it waits for those goroutines
	return true
}

func (h *hold) worse(than *hold) bool {
	if mine, its := h.memory.Load(), than.memory.Load(); mine != its {
		return mine > its
	}
	return h.since.Before(than.since)
}
