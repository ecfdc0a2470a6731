package door

import (
	"net"
	"sync"
)

// line is where connections wait for a slot. The origins that have a connection there
// take turns. A connection whose origin was not looked up, because few connect, has the
// origin "", with a share of its own.
type line struct {
	slots, share, nameless, most int

	mu       sync.Mutex
	closed   bool
	taken    int // slots
	byOrigin map[string]*place
	turns    []*place // those with a connection that waits and a slot to spare
}

// place is the place of one origin.
type place struct {
	origin  string
	waiting []net.Conn
	taken   int
	listed  bool // in turns
}

func (l *line) setUp(slots, share, nameless, most int) {
	l.slots, l.share, l.nameless, l.most = slots, share, nameless, most
	l.byOrigin = make(map[string]*place)
}

// room reports whether a connection without a name need not wait.
func (l *line) room() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.byOrigin[""]
	return l.taken < l.slots && (p == nil || l.mayTake(p))
}

// push takes a slot for a connection, or lets the connection wait: then now is false. It
// returns ok false if too many of the origin wait.
func (l *line) push(nc net.Conn, origin string) (now, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.byOrigin[origin]
	if p == nil {
		p = &place{origin: origin}
		l.byOrigin[origin] = p
	}
	switch {
	case l.taken < l.slots && len(l.turns) == 0 && len(p.waiting) == 0 && l.mayTake(p):
		l.taken++
		p.taken++
		return true, true
	case origin != "" && len(p.waiting) >= l.most:
		return false, false
	}
	p.waiting = append(p.waiting, nc)
	l.list(p)
	return false, true
}

func (l *line) mayTake(p *place) bool {
	if p.origin == "" {
		return p.taken < l.nameless
	}
	return p.taken < l.share
}

// list gives an origin a turn, if it may have one.
func (l *line) list(p *place) {
	if !p.listed && len(p.waiting) > 0 && l.mayTake(p) {
		p.listed = true
		l.turns = append(l.turns, p)
	}
}

// next gives back a slot of an origin, and takes it for the connection whose turn it is.
func (l *line) next(origin string) (nc net.Conn, its string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken--
	p := l.byOrigin[origin]
	p.taken--
	l.list(p)
	if len(p.waiting) == 0 && p.taken == 0 {
		delete(l.byOrigin, origin)
	}
	if len(l.turns) == 0 || l.closed {
		return nil, "", false
	}
	first := l.turns[0]
	l.turns = l.turns[1:]
	first.listed = false
	nc = first.waiting[0]
	first.waiting[0] = nil
	first.waiting = first.waiting[1:]
	first.taken++
	l.taken++
	l.list(first)
	return nc, first.origin, true
}

// close returns all connections that wait, and lets no other in.
func (l *line) close() (waiting []net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, p := range l.byOrigin {
		waiting = append(waiting, p.waiting...)
		p.waiting = nil
	}
	l.turns = nil
	return waiting
}
