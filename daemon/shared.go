package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// sharedKey is whose turn it is in the queue when a batch's is: no container
// and no uid is named so. All batches have one key, so that whoever doesn't
// share has as many turns as they.
const sharedKey = "shared batches"

// sharedPerQuote is how many callers of one account and batch its allowance
// pays one quote for.
const sharedPerQuote = 16

// errNobodyWaits ends a batch that all have left.
var errNobodyWaits = errors.New("nobody waits for this quote any more")

// shares gathers callers that wait together, so that one quote does for all.
type shares struct {
	queue *hw.Queue

	mu   sync.Mutex
	open *batch // takes more; nil: the next caller begins one
}

// batch is all who share a quote. It takes callers while another quote is in
// flight, and closes when its own turn comes. Under shares.mu until done.
type batch struct {
	leaves  []*leaf
	byData  map[hw.ReportData]*leaf
	charged map[*account]int // callers that joined
	waiting int
	cancel  context.CancelFunc

	done  chan struct{} // closed when the rest is set
	tree  *rpc.Tree
	quote []byte
	err   error
}

// leaf is one caller's claims. Callers with the same claims, which only the
// same container with the same nonce can have, are one leaf.
type leaf struct {
	data    hw.ReportData
	waiting int
	index   int // set when the batch closes
}

// get waits for a quote that data has a part in, and returns it with the
// proof. charge is called where the account has to pay for another quote.
func (s *shares) get(ctx context.Context, data hw.ReportData, by *account, charge func() error) ([]byte, *rpc.Shared, error) {
	b, l, err := s.join(data, by, charge)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		s.leave(b, l)
		return nil, nil, hw.NewError(hw.OpQuote, "", ctx.Err())
	}
	if b.err != nil {
		return nil, nil, b.err
	}
	return b.quote, b.tree.Shared(l.index), nil
}

// join adds a caller to the open batch, or begins one. The batch asks for its
// turn in a goroutine of its own: whoever began it may leave it.
func (s *shares) join(data hw.ReportData, by *account, charge func() error) (*batch, *leaf, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.open
	if b != nil && len(b.leaves) == rpc.MaxShared {
		b = nil // full: it waits for its turn as it is
	}
	if b == nil || b.charged[by]%sharedPerQuote == 0 {
		if err := charge(); err != nil {
			return nil, nil, err
		}
	}
	if b == nil {
		b = s.begin()
	}
	b.charged[by]++
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

func (s *shares) begin() *batch {
	ctx, cancel := context.WithCancel(context.Background())
	b := &batch{
		byData: make(map[hw.ReportData]*leaf), charged: make(map[*account]int),
		cancel: cancel, done: make(chan struct{}),
	}
	s.open = b
	go func() {
		defer cancel()
		b.quote, b.err = s.queue.QuoteLate(ctx, sharedKey, func() (hw.ReportData, error) { return s.close(b) })
		s.mu.Lock()
		s.forget(b)
		s.mu.Unlock()
		close(b.done)
	}()
	return b
}

// close takes no more callers, for the batch's turn has come, and returns what
// the quote is to be over. Whoever left before has no part in it.
func (s *shares) close(b *batch) (hw.ReportData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(b)
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

// leave is a caller going away. The last one ends the batch: a turn is too
// dear to be had for nobody.
func (s *shares) leave(b *batch, l *leaf) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.waiting--
	if b.waiting--; b.waiting == 0 {
		s.forget(b)
		b.cancel()
	}
}

func (s *shares) forget(b *batch) {
	if s.open == b {
		s.open = nil
	}
}
