package quotes

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// batchKey is the queue's key of all batches: no container and no uid has this
// name. One key for all batches gives callers that don't share a quote as many
// turns as all that do.
const batchKey = "shared batches"

// CallersPerQuote is the number of callers of one payer in one batch that are
// charged as one quote: as many as one connection may have waiting.
const CallersPerQuote = 256

// errNobodyWaits ends a batch that all callers have left.
var errNobodyWaits = errors.New("no caller waits for this quote any more")

// Batches gather callers that wait at the same time, so that one quote is
// enough for all of them. Its methods may be called from many goroutines.
type Batches struct {
	queue *Queue

	mu   sync.Mutex
	open *batch // accepts callers; nil: the next caller begins one
}

// batch is a set of callers that share a quote. It accepts callers while another
// quote is being made, and closes when its own turn comes. quoteBatches.mu guards
// its fields until done is closed.
type batch struct {
	leaves  []*leaf
	byData  map[hw.ReportData]*leaf
	charged map[string]int // number of callers that joined, by payer
	waiting int
	cancel  context.CancelFunc

	done  chan struct{} // closed when the fields below are set
	tree  *rpc.Tree
	quote []byte
	err   error
}

// leaf is one caller's report data. Callers with equal report data, which only
// the same container with the same nonce can have, share a leaf.
type leaf struct {
	data    hw.ReportData
	waiting int
	index   int // in the tree; set when the batch closes
}

func NewBatches(queue *Queue) *Batches { return &Batches{queue: queue} }

// Quote waits for a quote whose tree has data as a leaf, and returns the quote
// with data's proof. charge is called when the payer has to pay for one more
// quote; its error ends the call.
func (q *Batches) Quote(ctx context.Context, payer string, data hw.ReportData, charge func() error) ([]byte, *rpc.Shared, error) {
	b, l, err := q.join(data, payer, charge)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		q.leave(b, l)
		return nil, nil, hw.NewError(hw.OpQuote, "", ctx.Err())
	}
	if b.err != nil {
		return nil, nil, b.err
	}
	return b.quote, b.tree.Shared(l.index), nil
}

// Joined is the number of callers in the batch that is open.
func (q *Batches) Joined() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		return 0
	}
	return q.open.waiting
}

// join adds a caller to the open batch, or begins a batch. The batch waits for
// its turn in a goroutine of its own, because the caller that began it may leave.
func (q *Batches) join(data hw.ReportData, payer string, charge func() error) (*batch, *leaf, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.open
	if b != nil && len(b.leaves) == rpc.MaxShared {
		b = nil // a full batch waits for its turn as it is
	}
	if b == nil || b.charged[payer]%CallersPerQuote == 0 {
		if err := charge(); err != nil {
			return nil, nil, err
		}
	}
	if b == nil {
		b = q.begin()
	}
	b.charged[payer]++
	b.waiting++
	l := b.byData[data]
	if l == nil {
		l = &leaf{data: data}
		b.byData[data] = l
		b.leaves = append(b.leaves, l)
	}
	l.waiting++
	return b, l, nil
}

func (q *Batches) begin() *batch {
	ctx, cancel := context.WithCancel(context.Background())
	b := &batch{
		byData: make(map[hw.ReportData]*leaf), charged: make(map[string]int),
		cancel: cancel, done: make(chan struct{}),
	}
	q.open = b
	go func() {
		defer cancel()
		b.quote, b.err = q.queue.quoteLate(ctx, batchKey, func() (hw.ReportData, error) { return q.close(b) })
		q.mu.Lock()
		q.detach(b)
		q.mu.Unlock()
		close(b.done)
	}()
	return b
}

// close ends joining, because the batch's turn has come, and returns the report
// data of the quote. Callers that left before are not in the tree.
func (q *Batches) close(b *batch) (hw.ReportData, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.detach(b)
	b.leaves = slices.DeleteFunc(b.leaves, func(l *leaf) bool { return l.waiting == 0 })
	if len(b.leaves) == 0 {
		return hw.ReportData{}, errNobodyWaits
	}
	all := make([][64]byte, len(b.leaves))
	for i, l := range b.leaves {
		l.index, all[i] = i, l.data
	}
	tree, err := rpc.NewTree(all)
	if err != nil {
		return hw.ReportData{}, err
	}
	b.tree = tree
	return tree.ReportData(), nil
}

// leave removes a caller. The last one ends the batch: a turn is not spent on a
// quote that nobody waits for.
func (q *Batches) leave(b *batch, l *leaf) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.waiting--
	if b.waiting--; b.waiting == 0 {
		q.detach(b)
		b.cancel()
	}
}

func (q *Batches) detach(b *batch) {
	if q.open == b {
		q.open = nil
	}
}
