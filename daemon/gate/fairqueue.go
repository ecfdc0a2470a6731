package gate

import "sync"

// Limits. Each held process takes two descriptors.
const (
	maxHeld         = 1024 // of all payers
	maxHeldPerPayer = 128
	workers         = 16
	workersPerPayer = 4 // that decide for one payer at a time
)

// payer is who is charged for a held process. One payer can neither fill the queue
// nor keep all workers busy.
type payer struct {
	user   uint32 // the user that executes a runtime
	inside bool   // the process is in a container
	device uint64 // the root file system of the executed file
}

// fairQueue holds the processes that wait for a decision. The payers take turns.
type fairQueue struct {
	mu      sync.Mutex
	ready   sync.Cond
	byPayer map[payer]*payerQueue
	turns   []*payerQueue // payers with a process that waits and a worker to spare
	held    int
	closed  bool
}

// payerQueue holds the processes of one payer.
type payerQueue struct {
	held, deciding int
	waiting        []*HeldExec
	listed         bool // in turns
}

func newFairQueue() *fairQueue {
	q := &fairQueue{byPayer: make(map[payer]*payerQueue)}
	q.ready.L = &q.mu
	return q
}

// put adds a process. It returns false if too many wait.
func (q *fairQueue) put(h *HeldExec) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.byPayer[h.payer]
	if q.held >= maxHeld || mine != nil && mine.held >= maxHeldPerPayer {
		return false
	}
	if mine == nil {
		mine = &payerQueue{}
		q.byPayer[h.payer] = mine
	}
	q.held++
	mine.held++
	mine.waiting = append(mine.waiting, h)
	q.list(mine)
	return true
}

// list gives a payer a turn, if it has a process that waits and a worker to spare.
func (q *fairQueue) list(mine *payerQueue) {
	if mine.listed || len(mine.waiting) == 0 || mine.deciding >= workersPerPayer {
		return
	}
	mine.listed = true
	q.turns = append(q.turns, mine)
	q.ready.Signal()
}

// next waits for the next process to decide. It returns nil when the queue is
// closed and empty.
func (q *fairQueue) next() *HeldExec {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.turns) == 0 {
		if q.closed && q.held == 0 {
			return nil
		}
		q.ready.Wait()
	}
	mine := q.turns[0]
	q.turns, mine.listed = q.turns[1:], false
	h := mine.waiting[0]
	mine.waiting = mine.waiting[1:]
	mine.deciding++
	q.list(mine)
	return h
}

// done gives back the place of a process that next returned.
func (q *fairQueue) done(h *HeldExec) {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.byPayer[h.payer]
	q.held--
	mine.held--
	mine.deciding--
	q.list(mine)
	if mine.held == 0 {
		delete(q.byPayer, h.payer)
	}
	if q.closed && q.held == 0 {
		q.ready.Broadcast()
	}
}

// pause gives the worker of a process that next returned to others. The process keeps
// its place, until resume lets it wait for a worker again.
func (q *fairQueue) pause(h *HeldExec) {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.byPayer[h.payer]
	mine.deciding--
	q.list(mine)
}

func (q *fairQueue) resume(h *HeldExec) {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.byPayer[h.payer]
	mine.waiting = append(mine.waiting, h)
	q.list(mine)
}

// isClosed reports whether put is not called any more.
func (q *fairQueue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// close says that put is not called any more.
func (q *fairQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready.Broadcast()
}
