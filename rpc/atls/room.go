package atls

import (
	"fmt"
	"sync"
)

// maxUnjudged bounds the evidence of all sessions that a listener has not appraised yet, in
// bytes: whoever connects can send some. 4,096 sessions of some 50 KiB each fit.
const maxUnjudged = 512 << 20

// room is what is left of that bound.
type room struct {
	mu   sync.Mutex
	left int
}

// share is what one session has of a room. Without a room it has no bound.
type share struct {
	of    *room
	held  int
	ended bool // the session: nobody lets go any more
}

// take takes room for bytes that were read.
func (s *share) take(n int) error {
	if s.of == nil {
		return nil
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.ended || n > s.of.left {
		return fmt.Errorf("there is no room for %d more bytes: too much evidence of others waits to be appraised", n)
	}
	s.of.left, s.held = s.of.left-n, s.held+n
	return nil
}

// letGo gives back all that was taken.
func (s *share) letGo() {
	if s.of == nil {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.left, s.held = s.of.left+s.held, 0
}

// end lets go for good.
func (s *share) end() {
	if s.of == nil {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.left, s.held, s.ended = s.of.left+s.held, 0, true
}
