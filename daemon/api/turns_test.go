package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/quotes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc"
)

// TestFairBesideAFlood: however often one caller asks, no other caller waits
// for more than two quotes, the one in flight and one of the flood.
func TestFairBesideAFlood(t *testing.T) {
	f, tee := slowQuotes(t, quoteTime, func(c *config.Config) { c.Limits.QuotesBurst = 1000 })
	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	flooder := f.somebody(1)
	tee.hold.Lock() // the first quote waits for all of the flood
	for range 50 {
		flood.Go(func() {
			if _, err := f.asks(ctx, flooder, false); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("flood: %v", err)
			}
		})
	}
	daemontest.Eventually(t, "a flood", func() bool { return f.api.queue.Waiting() == 49 })
	tee.hold.Unlock()
	for n, shared := range []bool{false, true, false, true} {
		// One is in flight until the new caller is in the queue: quotes are
		// counted from that moment, however busy the machine is.
		tee.hold.Lock()
		daemontest.Eventually(t, "the flood's next one is in flight", tee.stuck.Load)
		before, waiting := tee.begun.Load(), f.api.queue.Waiting()
		var e *rpc.Evidence
		asked := make(chan error)
		go func() {
			var err error
			e, err = f.asks(t.Context(), f.somebody(10+n), shared)
			asked <- err
		}()
		daemontest.Eventually(t, "it is in the queue", func() bool { return f.api.queue.Waiting() == waiting+1 })
		tee.hold.Unlock()
		if err := <-asked; err != nil {
			t.Fatal(err)
		}
		q, err := dcap.ParseQuote(e.Quote)
		if err != nil {
			t.Fatal(err)
		}
		if between := tee.number(q.ReportData) - before - 1; between > 1 {
			t.Errorf("shared %v: %d quotes came between", shared, between)
		}
	}
	cancel()
	flood.Wait()
}

// TestSharedCallersLeave: a caller that goes away before the batch closes has no
// part in it; when all do, no quote is made.
func TestSharedCallersLeave(t *testing.T) {
	f, tee := slowQuotes(t, 0)
	ask := func(ctx context.Context, n int, to *sync.WaitGroup, check func(*rpc.Evidence, error)) {
		to.Go(func() { check(f.asks(ctx, f.somebody(n), true)) })
	}
	waiting := func(n int) {
		t.Helper()
		daemontest.Eventually(t, fmt.Sprintf("%d in a batch", n), func() bool { return f.api.batches.Joined() == n })
	}
	left := func(_ *rpc.Evidence, err error) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: %v", err)
		}
	}
	stays := func(e *rpc.Evidence, err error) {
		if err != nil || e.Shared.Size != 3 {
			t.Errorf("a caller that stayed: %+v, %v", e, err)
			return
		}
		f.all([]*rpc.Evidence{e})
	}
	first, err := f.asks(t.Context(), f.somebody(0), true)
	if err != nil || first.Shared.Size != 1 {
		t.Fatalf("alone: %+v, %v", first, err)
	}
	f.all([]*rpc.Evidence{first})

	ctx, cancel := context.WithCancel(t.Context())
	var gone, all sync.WaitGroup
	tee.hold.Lock()                                              // the quote before theirs ends when the callers are gone
	all.Go(func() { f.asks(t.Context(), f.somebody(1), false) }) // in flight
	daemontest.Eventually(t, "a quote in flight", func() bool { return tee.begun.Load() == 2 })
	for i := range 6 {
		if i%2 == 0 {
			ask(ctx, 10+i, &gone, left)
		} else {
			ask(t.Context(), 10+i, &all, stays)
		}
		waiting(i + 1)
	}
	cancel()
	gone.Wait()
	tee.hold.Unlock()
	all.Wait()
	if n := tee.begun.Load(); n != 3 {
		t.Errorf("%d quotes, want 3", n)
	}

	ctx, cancel = context.WithCancel(t.Context())
	tee.hold.Lock()
	all.Go(func() { f.asks(t.Context(), f.somebody(2), false) })
	daemontest.Eventually(t, "a quote in flight", func() bool { return tee.begun.Load() == 4 })
	for i := range 3 {
		ask(ctx, 20+i, &gone, left)
		waiting(i + 1)
	}
	cancel()
	gone.Wait()
	daemontest.Eventually(t, "an empty queue", func() bool { return f.api.queue.Waiting() == 0 })
	tee.hold.Unlock()
	all.Wait()
	if n := tee.begun.Load(); n != 4 {
		t.Errorf("%d quotes were made, the last one without a caller", n)
	}
	if e, err := f.asks(t.Context(), f.somebody(3), true); err != nil || e.Shared.Size != 1 {
		t.Errorf("after all left: %+v, %v", e, err)
	}
}

// TestSharedAllowance: a quote of the allowance pays for so many in one batch, and for no
// more. Those beyond it are refused if they would have to wait too long.
func TestSharedAllowance(t *testing.T) {
	f, tee := slowQuotes(t, 0, func(c *config.Config) {
		c.Limits.QuotesBurst, c.Limits.QuotesPerMinute = 2, 0.001
	})
	tee.hold.Lock() // the quote of another ends when all others have joined or were refused
	var wg sync.WaitGroup
	wg.Go(func() { f.asks(t.Context(), f.somebody(1), false) })
	daemontest.Eventually(t, "a quote in flight", func() bool { return tee.begun.Load() == 1 })
	s := f.somebody(2)
	var given, refused atomic.Int32
	const many = 2*quotes.CallersPerQuote + 8
	for i := range many {
		wg.Go(func() {
			// the claims differ by their user data
			e, err := f.api.bundle(t.Context(), s, rpc.EvidenceParams{Nonce: nonce, UserData: []byte{byte(i), byte(i >> 8)}, Shared: true})
			var limited *rpc.Error
			switch {
			case err == nil && e.Shared.Size == 2*quotes.CallersPerQuote:
				given.Add(1)
			case errors.As(err, &limited) && limited.Code == rpc.CodeRateLimited:
				refused.Add(1)
			default:
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	daemontest.Eventually(t, "all others joined or refused", func() bool {
		return f.api.batches.Joined() == 2*quotes.CallersPerQuote && refused.Load() == 8
	})
	tee.hold.Unlock()
	wg.Wait()
	if given.Load() != 2*quotes.CallersPerQuote || refused.Load() != 8 {
		t.Errorf("%d given, %d refused", given.Load(), refused.Load())
	}
}

// TestSharedBeyondTheRate: callers of one payer who share wait for its next quote together,
// and none is refused. Those who don't share are.
func TestSharedBeyondTheRate(t *testing.T) {
	const many = 200
	f, tee := slowQuotes(t, 0, func(c *config.Config) {
		c.Limits.QuotesBurst, c.Limits.QuotesPerMinute = 1, 30
	})
	s := f.somebody(1)
	tee.hold.Lock() // the first quote, which takes the whole burst, ends when all others have joined
	var wg sync.WaitGroup
	ask := func(i int) {
		if _, err := f.api.bundle(t.Context(), s, rpc.EvidenceParams{Nonce: nonce, UserData: []byte{byte(i)}, Shared: true}); err != nil {
			t.Error(err)
		}
	}
	wg.Go(func() { ask(0) })
	daemontest.Eventually(t, "a quote in flight", func() bool { return tee.begun.Load() == 1 })
	var limited *rpc.Error
	if _, err := f.asks(t.Context(), s, false); !errors.As(err, &limited) || limited.Code != rpc.CodeRateLimited {
		t.Errorf("alone, beyond the rate: %v", err)
	}
	for i := range many - 1 {
		wg.Go(func() { ask(i + 1) })
	}
	daemontest.Eventually(t, "all others in a batch", func() bool { return f.api.batches.Joined() == many-1 })
	tee.hold.Unlock()
	wg.Wait()
	if n := tee.begun.Load(); n != 2 {
		t.Errorf("%d quotes for %d callers, want 2", n, many)
	}
}

// TestSharedOverOneConnection: 200 callers at once in one process, by one client on one
// connection, with the default limits, hold evidence after two quotes (cima-api(7)).
func TestSharedOverOneConnection(t *testing.T) {
	const many = 200
	f := newFixture(t)
	tee := f.slowed(0)
	c := f.client()
	tee.hold.Lock()
	var all sync.WaitGroup
	ask := func(i int) {
		bundle, err := c.GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce, UserData: []byte{byte(i)}, Shared: true})
		if err != nil {
			t.Error(err)
			return
		}
		f.wantAuthentic(bundle)
	}
	all.Go(func() { ask(0) })
	daemontest.Eventually(t, "the first quote is being made", func() bool { return tee.begun.Load() == 1 })
	for i := range many - 1 {
		all.Go(func() { ask(i + 1) })
	}
	daemontest.Eventually(t, "all others in a batch", func() bool { return f.api.batches.Joined() == many-1 })
	if who, err := c.WhoAmI(t.Context()); err != nil || who.Host == nil {
		t.Errorf("while they wait: %+v, %v", who, err)
	}
	counts := f.api.server.Counts()
	tee.hold.Unlock()
	all.Wait()
	if n := tee.begun.Load(); n != 2 || counts.Connections != 1 {
		t.Errorf("%d quotes and %d connections for %d callers, want 2 and 1", n, counts.Connections, many)
	}
}

// TestSameClaimsAreOneLeaf: equal claims share one leaf.
func TestSameClaimsAreOneLeaf(t *testing.T) {
	f, tee := slowQuotes(t, 0)
	tee.hold.Lock()
	var wg sync.WaitGroup
	wg.Go(func() { f.asks(t.Context(), f.somebody(1), false) })
	daemontest.Eventually(t, "a quote in flight", func() bool { return tee.begun.Load() == 1 })
	for range 4 {
		wg.Go(func() {
			if e, err := f.asks(t.Context(), f.somebody(2), true); err != nil || e.Shared.Size != 1 {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
	daemontest.Eventually(t, "all in a batch", func() bool { return f.api.batches.Joined() == 4 })
	tee.hold.Unlock()
	wg.Wait()
}

// TestHungQuoteOfABatch: if the hardware doesn't answer, a batch that all
// callers have left gives up its turn.
func TestHungQuoteOfABatch(t *testing.T) {
	f, tee := slowQuotes(t, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.asks(ctx, f.somebody(1), true) })
	daemontest.Eventually(t, "a quote in flight", func() bool { return tee.begun.Load() == 1 })
	cancel()
	wg.Wait()
	ctx, cancel = context.WithCancel(t.Context())
	wg.Go(func() { f.asks(ctx, f.somebody(2), false) })
	daemontest.Eventually(t, "the next one's turn", func() bool { return tee.begun.Load() == 2 })
	cancel()
	wg.Wait()
}
