// Package quotes answers: how do callers share the hardware?
//
// A TDX guest makes one quote at a time, and a quote takes a second. Queue gives
// callers turns, fairly by payer; Batches makes one quote for all callers that
// wait at the same time; TimedTEE bounds how long a caller waits for registers.
package quotes

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/cima-project/cima/hw"
)

// Quoter is what a Queue stands before; every TEE is one.
type Quoter interface {
	Quote(ctx context.Context, data hw.ReportData) ([]byte, error)
}

// Queue gives callers quotes in turn. A key stands for a caller: a caller that asks
// often waits behind callers that ask seldom, and it does not help to ask over many
// connections. The methods may be called from many goroutines.
type Queue struct {
	quoter Quoter
	perKey int

	mu      sync.Mutex
	free    int                    // turns that nobody has
	order   []string               // keys that wait, the next one first
	waiting map[string][]chan bool // a channel for each call; closed when it has its turn
}

// NewQueue lets at most parallel quotes be made at once (1 for configfs-tsm) and
// at most perKey calls of one key wait.
func NewQueue(quoter Quoter, parallel, perKey int) *Queue {
	return &Queue{quoter: quoter, perKey: perKey, free: parallel, waiting: map[string][]chan bool{}}
}

// Quote waits for a turn of key's and makes a quote. A caller whose ctx ends
// stops waiting. Where too many calls of key wait already: ErrBusy.
func (q *Queue) Quote(ctx context.Context, key string, data hw.ReportData) ([]byte, error) {
	return q.quoteLate(ctx, key, func() (hw.ReportData, error) { return data, nil })
}

// quoteLate is Quote over what data returns when the turn has come, so that it
// may be gathered while others have theirs. An error of data's is returned, and
// the turn given up.
func (q *Queue) quoteLate(ctx context.Context, key string, data func() (hw.ReportData, error)) ([]byte, error) {
	if err := q.acquire(ctx, key); err != nil {
		return nil, err
	}
	defer q.release()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	over, err := data()
	if err != nil {
		return nil, err
	}
	return q.quoter.Quote(ctx, over)
}

// Waiting is how many calls have no turn yet.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, calls := range q.waiting {
		n += len(calls)
	}
	return n
}

func (q *Queue) acquire(ctx context.Context, key string) error {
	q.mu.Lock()
	if q.free > 0 { // then nobody waits
		q.free--
		q.mu.Unlock()
		return nil
	}
	if len(q.waiting[key]) >= q.perKey {
		q.mu.Unlock()
		return &hw.Error{Op: hw.OpQuote, Err: fmt.Errorf("%w: %d quotes of this caller wait already", hw.ErrBusy, q.perKey), Advice: "wait for their answers before asking again"}
	}
	turn := make(chan bool)
	if len(q.waiting[key]) == 0 {
		q.order = append(q.order, key)
	}
	q.waiting[key] = append(q.waiting[key], turn)
	q.mu.Unlock()

	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		q.leave(key, turn)
		return hw.NewError(hw.OpQuote, "", fmt.Errorf("gave up waiting for a turn: %w", ctx.Err()))
	}
}

// leave takes a call out of the queue, or gives up the turn that it just got.
func (q *Queue) leave(key string, turn chan bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	calls := q.waiting[key]
	i := slices.Index(calls, turn)
	if i < 0 {
		q.next()
		return
	}
	if len(calls) == 1 {
		delete(q.waiting, key)
		q.order = slices.DeleteFunc(q.order, func(k string) bool { return k == key })
		return
	}
	q.waiting[key] = slices.Delete(calls, i, i+1)
}

func (q *Queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next()
}

// next gives a turn to the oldest call of the key whose turn it is.
func (q *Queue) next() {
	if len(q.order) == 0 {
		q.free++
		return
	}
	key := q.order[0]
	q.order = q.order[1:]
	calls := q.waiting[key]
	close(calls[0])
	if len(calls) == 1 {
		delete(q.waiting, key)
		return
	}
	q.waiting[key] = calls[1:]
	q.order = append(q.order, key)
}
