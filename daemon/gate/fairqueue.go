package gate

import (
	"sync"

	"github.com/cima-project/cima/daemon/procfs"
)

// limits bound what is held, and how many workers decide. Each held process takes two
// descriptors. What is hashed has turns of its own (package hashing), so that many
// workers do not mean many busy processors.
type limits struct {
	held, heldPerPayer       int
	workers, workersPerPayer int // that decide at a time
}

var (
	// runtimeLimits: nearly all starts are one engine's, whose own are its payer.
	runtimeLimits = limits{held: 1024, heldPerPayer: 512, workers: 256, workersPerPayer: 128}
	rootLimits    = limits{held: 1024, heldPerPayer: 128, workers: 64, workersPerPayer: 16}
)

// payer is who is charged for a held process. One payer can neither fill the queue
// nor keep all workers busy.
type payer struct {
	space  procfs.FileID // the mount namespace that a runtime is executed in
	device uint64        // the root file system of the executed file
}

// fairQueue holds the processes that wait for a decision. The payers take turns.
type fairQueue struct {
	limits
	mu      sync.Mutex
	ready   sync.Cond
	byPayer map[payer]*payerQueue
	turns   []*payerQueue // payers with a process that waits and a worker to spare
	total   int           // that are held
	closed  bool
}

// payerQueue holds the processes of one payer.
type payerQueue struct {
	held, deciding int
	waiting        []*HeldExec
	listed         bool // in turns
}

func newFairQueue(l limits) *fairQueue {
	q := &fairQueue{limits: l, byPayer: make(map[payer]*payerQueue)}
	q.ready.L = &q.mu
	return q
}

// put adds a process. It returns false if too many wait.
func (q *fairQueue) put(h *HeldExec) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.byPayer[h.payer]
	if q.total >= q.limits.held || mine != nil && mine.held >= q.heldPerPayer {
		return false
	}
	if mine == nil {
		mine = &payerQueue{}
		q.byPayer[h.payer] = mine
	}
	q.total++
	mine.held++
	mine.waiting = append(mine.waiting, h)
	q.list(mine)
	return true
}

// list gives a payer a turn, if it has a process that waits and a worker to spare.
func (q *fairQueue) list(mine *payerQueue) {
	if mine.listed || len(mine.waiting) == 0 || mine.deciding >= q.workersPerPayer {
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
		if q.closed && q.total == 0 {
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
	q.total--
	mine.held--
	mine.deciding--
	q.list(mine)
	if mine.held == 0 {
		delete(q.byPayer, h.payer)
	}
	if q.closed && q.total == 0 {
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
