package gate

import "sync"

// Bounds: each held process costs two descriptors.
const (
	maxHeld         = 1024 // in all
	maxHeldPerPayer = 128  // of one user, or of one root file system
	workers         = 16
	workersPerPayer = 4 // workers that decide for one at once
)

// payer is whom a held process is charged to. One can neither fill all places
// nor keep all workers busy.
type payer struct {
	user   uint32 // who executes a runtime
	inside bool   // of a container, whichever
	device uint64 // the root file system executed from
}

// fairQueue are those who wait for a decision, in the order in which they come to
// it: each of whom they are charged to in turn.
type fairQueue struct {
	mu      sync.Mutex
	ready   sync.Cond
	byPayer map[payer]*payerQueue
	turns   []*payerQueue // who have somebody waiting, and a worker to spare
	held    int
	closed  bool
}

type payerQueue struct {
	held, deciding int
	waiting        []*HeldExec
	listed         bool // in turns
}

func newFairQueue() *fairQueue {
	s := &fairQueue{byPayer: make(map[payer]*payerQueue)}
	s.ready.L = &s.mu
	return s
}

// put has a process wait, false where there are too many.
func (s *fairQueue) put(h *HeldExec) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.byPayer[h.payer]
	if s.held >= maxHeld || mine != nil && mine.held >= maxHeldPerPayer {
		return false
	}
	if mine == nil {
		mine = &payerQueue{}
		s.byPayer[h.payer] = mine
	}
	s.held++
	mine.held++
	mine.waiting = append(mine.waiting, h)
	s.list(mine)
	return true
}

func (s *fairQueue) list(mine *payerQueue) {
	if mine.listed || len(mine.waiting) == 0 || mine.deciding >= workersPerPayer {
		return
	}
	mine.listed = true
	s.turns = append(s.turns, mine)
	s.ready.Signal()
}

// next waits for the next one, nil once there is none and will be none.
func (s *fairQueue) next() *HeldExec {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.turns) == 0 {
		if s.closed && s.held == 0 {
			return nil
		}
		s.ready.Wait()
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
func (s *fairQueue) done(h *HeldExec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.byPayer[h.payer]
	s.held--
	mine.held--
	mine.deciding--
	s.list(mine)
	if mine.held == 0 {
		delete(s.byPayer, h.payer)
	}
	if s.closed && s.held == 0 {
		s.ready.Broadcast()
	}
}

// close says that no more come.
func (s *fairQueue) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.ready.Broadcast()
}
