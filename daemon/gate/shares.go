package gate

import "sync"

// Bounds: each held process costs two descriptors.
const (
	maxHeld  = 1024 // in all
	maxShare = 128  // of one user, or of one root file system
	workers  = 16
	perShare = 4 // workers that decide for one at once
)

// who is whom a held process is charged to. One can neither fill all places
// nor keep all workers busy.
type who struct {
	user   uint32 // who executes a runtime
	inside bool   // of a container, whichever
	device uint64 // the root file system executed from
}

// shares are those who wait for a decision, in the order in which they come to
// it: each of whom they are charged to in turn.
type shares struct {
	mu     sync.Mutex
	some   sync.Cond
	by     map[who]*share
	turns  []*share // who have somebody waiting, and a worker to spare
	held   int
	closed bool
}

type share struct {
	held, deciding int
	waiting        []*Held
	listed         bool // in turns
}

func newShares() *shares {
	s := &shares{by: make(map[who]*share)}
	s.some.L = &s.mu
	return s
}

// put has a process wait, false where there are too many.
func (s *shares) put(h *Held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.by[h.who]
	if s.held >= maxHeld || mine != nil && mine.held >= maxShare {
		return false
	}
	if mine == nil {
		mine = &share{}
		s.by[h.who] = mine
	}
	s.held++
	mine.held++
	mine.waiting = append(mine.waiting, h)
	s.list(mine)
	return true
}

func (s *shares) list(mine *share) {
	if mine.listed || len(mine.waiting) == 0 || mine.deciding >= perShare {
		return
	}
	mine.listed = true
	s.turns = append(s.turns, mine)
	s.some.Signal()
}

// next waits for the next one, nil once there is none and will be none.
func (s *shares) next() *Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.turns) == 0 {
		if s.closed && s.held == 0 {
			return nil
		}
		s.some.Wait()
	}
	mine := s.turns[0]
	s.turns, mine.listed = s.turns[1:], false
	h := mine.waiting[0]
	mine.waiting = mine.waiting[1:]
	mine.deciding++
	s.list(mine)
	return h
}

// done gives the place of one that next returned.
func (s *shares) done(h *Held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.by[h.who]
	s.held--
	mine.held--
	mine.deciding--
	s.list(mine)
	if mine.held == 0 {
		delete(s.by, h.who)
	}
	if s.closed && s.held == 0 {
		s.some.Broadcast()
	}
}

// close says that no more come.
func (s *shares) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.some.Broadcast()
}
