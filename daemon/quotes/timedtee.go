package quotes

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/hw"
)

// maxRegisterReads is how many reads of the registers may hang at once.
const maxRegisterReads = 4

// TimedTEE is a TEE that counts what the hardware did, and whose registers are
// waited for no longer than a context lasts. A system call that hangs can't be
// interrupted: the caller gives up, and the call goes on in one of few
// goroutines. Waiting for quotes is bounded by the queue, waiting for extends by
// the ledger.
type TimedTEE struct {
	hw.TEE
	reading chan struct{} // one element for each read in progress
	Counts  Counts
}

// Counts are what the hardware did since the daemon started.
type Counts struct {
	Extends, Quotes operation
}

// operation counts one kind of operation, and how long each took.
type operation struct {
	Done, Failed atomic.Uint64
	Took         metrics.Histogram
}

func (o *operation) count(begin time.Time, err error) {
	o.Took.Add(time.Since(begin))
	if err != nil {
		o.Failed.Add(1)
	} else {
		o.Done.Add(1)
	}
}

func NewTimedTEE(tee hw.TEE) *TimedTEE {
	return &TimedTEE{TEE: tee, reading: make(chan struct{}, maxRegisterReads)}
}

// Quote makes a quote over data.
func (t *TimedTEE) Quote(ctx context.Context, data hw.ReportData) ([]byte, error) {
	begin := time.Now()
	quote, err := t.TEE.Quote(ctx, data)
	t.Counts.Quotes.count(begin, err)
	return quote, err
}

// Extend extends RTMR3.
func (t *TimedTEE) Extend(ctx context.Context, digest hw.Digest) error {
	begin := time.Now()
	err := t.TEE.Extend(ctx, digest)
	t.Counts.Extends.count(begin, err)
	return err
}

// Registers reads the registers. When ctx ends first, the error is a *hw.Error.
func (t *TimedTEE) Registers(ctx context.Context) (hw.Registers, error) {
	type result struct {
		hw.Registers
		err error
	}
	select {
	case t.reading <- struct{}{}:
	case <-ctx.Done():
		return hw.Registers{}, gaveUp(ctx.Err())
	}
	got := make(chan result, 1)
	go func() {
		defer func() { <-t.reading }()
		r, err := t.TEE.Registers(ctx)
		got <- result{r, err}
	}()
	select {
	case r := <-got:
		return r.Registers, r.err
	case <-ctx.Done():
		return hw.Registers{}, gaveUp(ctx.Err())
	}
}

func gaveUp(why error) error {
	return &hw.Error{Op: hw.OpRegisters, Err: fmt.Errorf("gave up waiting: %w", why), Advice: "the hardware does not answer, or is slow: ask again later"}
}
