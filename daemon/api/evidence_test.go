package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/quotes"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// slow delays each quote, and counts the quotes that were started.
type slow struct {
	hw.TEE
	takes time.Duration
	begun atomic.Int32
	ended atomic.Int32
	order sync.Map // the number of each quote, by its report data

	hold  sync.Mutex  // held while a quote must not end
	stuck atomic.Bool // the quote in flight is held
}

func (s *slow) Quote(ctx context.Context, data hw.ReportData) ([]byte, error) {
	s.order.Store(data, s.begun.Add(1))
	defer s.ended.Add(1)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.stuck.Store(true)
	s.hold.Lock()
	s.stuck.Store(false)
	s.hold.Unlock()
	return s.TEE.Quote(ctx, data)
}

// number is the position of the quote over data, from 1.
func (s *slow) number(data hw.ReportData) int32 {
	n, _ := s.order.Load(data)
	return n.(int32)
}

// slowQuotes is a daemon whose quotes take so long, and its hardware.
func slowQuotes(t *testing.T, takes time.Duration, configure ...func(*config.Config)) (*fixture, *slow) {
	t.Helper()
	patient := func(c *config.Config) { c.Limits.QuoteTimeout = config.Duration(time.Hour) } // however busy the machine is
	f := newFixture(t, append([]func(*config.Config){patient}, configure...)...)
	return f, f.slowed(takes)
}

// slowed makes each quote of a running daemon take that long.
func (f *fixture) slowed(takes time.Duration) *slow {
	tee := &slow{TEE: f.machine, takes: takes}
	f.api.queue = quotes.NewQueue(tee, 1, f.config.Limits.ConnectionsPerContainer)
	f.api.batches = quotes.NewBatches(f.api.queue)
	return tee
}

// somebody is a caller with a queue and an account of its own, like every
// container.
func (f *fixture) somebody(n int) *subject {
	name := fmt.Sprintf("caller %d", n)
	return &subject{
		unit: name + ".service", uid: uint32(n), payer: name, account: f.api.callers.accounts.use(name),
		checkSame: func(context.Context) error { return nil },
	}
}

// asks gets evidence as that caller and appraises it.
func (f *fixture) asks(ctx context.Context, s *subject, shared bool) (*rpc.Evidence, error) {
	e, err := f.api.bundle(ctx, s, rpc.EvidenceParams{Nonce: nonce, Shared: shared})
	if err != nil {
		return nil, err
	}
	bundle, err := e.AppendJSON(nil)
	if err != nil {
		return nil, err
	}
	_, claims, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		return nil, err
	}
	if claims.Host.UID != s.uid || (e.Shared != nil) != shared {
		return nil, fmt.Errorf("evidence of uid %d, shared: %v", claims.Host.UID, e.Shared)
	}
	return e.Evidence, nil
}

// all appraises the evidence of the callers.
func (f *fixture) all(got []*rpc.Evidence) {
	f.t.Helper()
	for _, e := range got {
		bundle, err := e.AppendJSON(nil)
		if err != nil {
			f.t.Fatal(err)
		}
		f.wantAuthentic(bundle)
	}
}

// together requests evidence as n callers at once.
func (f *fixture) together(callers int, shared bool) []*rpc.Evidence {
	f.t.Helper()
	got := make([]*rpc.Evidence, callers)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = f.asks(f.t.Context(), f.somebody(i), shared); err != nil {
				f.t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
	return got
}

// quoteTime is how long a quote takes when many are made one after the other.
const quoteTime = 20 * time.Millisecond

// TestSharedByMany: 200 concurrent callers get evidence from two quotes, the
// first caller's and one for all others; without sharing each waits for a quote
// of its own.
func TestSharedByMany(t *testing.T) {
	const many, few = 200, 20
	f, tee := slowQuotes(t, quoteTime)
	tee.hold.Lock() // the first quote ends when all the others have joined
	var first *rpc.Evidence
	var asking sync.WaitGroup
	asking.Go(func() {
		var err error
		if first, err = f.asks(t.Context(), f.somebody(many), true); err != nil {
			t.Errorf("the first caller: %v", err)
		}
	})
	daemontest.Eventually(t, "the first quote is being made", func() bool { return tee.begun.Load() == 1 })
	go func() {
		defer tee.hold.Unlock()
		for f.api.batches.Joined() < many-1 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}()
	got := f.together(many-1, true)
	asking.Wait()
	if t.Failed() {
		t.FailNow()
	}
	got = append(got, first)
	if quotes := tee.begun.Load(); quotes != 2 {
		t.Errorf("%d quotes for %d callers, want 2", quotes, many)
	}
	f.all(got)
	sum := 0
	for quote, n := range byQuote(got) {
		sum += n
		for _, e := range got {
			if string(e.Quote) == quote && e.Shared.Size != n {
				t.Errorf("%d callers share a quote whose size is %d", n, e.Shared.Size)
			}
		}
	}
	if sum != many {
		t.Errorf("%d have a quote", sum)
	}

	f, tee = slowQuotes(t, quoteTime)
	got = f.together(few, false)
	if n := tee.begun.Load(); n != few {
		t.Errorf("%d quotes for %d callers", n, few)
	}
	f.all(got)
}

func byQuote(got []*rpc.Evidence) map[string]int {
	n := make(map[string]int)
	for _, e := range got {
		n[string(e.Quote)]++
	}
	return n
}

// TestSharedLogGrows: callers that share a quote fixed their claims at
// different points of the log, and the quote comes after all of them.
func TestSharedLogGrows(t *testing.T) {
	f, tee := slowQuotes(t, 0)
	tee.hold.Lock() // the quote before theirs ends when all have joined
	var wg sync.WaitGroup
	wg.Go(func() { f.asks(t.Context(), f.somebody(1), false) })
	daemontest.Eventually(t, "a quote in flight", func() bool { return tee.begun.Load() == 1 })
	got := make([]*rpc.Evidence, 3)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = f.asks(t.Context(), f.somebody(10+i), true); err != nil {
				t.Error(err)
			}
		})
		daemontest.Eventually(t, "the next one in the batch", func() bool { return f.api.batches.Joined() == i+1 })
		if _, err := f.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpMissed, Measured: map[string]int{"n": i}}); err != nil {
			t.Fatal(err)
		}
	}
	tee.hold.Unlock()
	wg.Wait()
	if t.Failed() {
		return
	}
	f.all(got)
	first := decode[rpc.Claims](t, got[0].Claims).Log.Count
	for i, e := range got {
		if n := decode[rpc.Claims](t, e.Claims).Log.Count; n != first+i || len(e.RuntimeLog) != first+3 || e.Shared.Size != 3 {
			t.Errorf("caller %d: claims at event %d, a log of %d, %d share", i, n, len(e.RuntimeLog), e.Shared.Size)
		}
	}
}

// TestSharedFailsForAll: all callers of a batch get the error of its one quote.
func TestSharedFailsForAll(t *testing.T) {
	f := newFixture(t)
	if err := f.machine.Inject(sim.Fault{Op: hw.OpQuote, Errno: syscall.EIO, Times: 1}); err != nil {
		t.Fatal(err)
	}
	_, err := f.asks(t.Context(), f.somebody(1), true)
	var hardware *hw.Error
	if !errors.As(err, &hardware) {
		t.Errorf("%v", err)
	}
	f.machine.Inject()
	e, err := f.asks(t.Context(), f.somebody(1), true)
	if err != nil {
		t.Fatal(err)
	}
	f.all([]*rpc.Evidence{e})
}

// TestSharedOverTheWire: evidence and report, as a client requests them.
func TestSharedOverTheWire(t *testing.T) {
	f := newFixture(t)
	bundle, err := f.client().GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	f.wantAuthentic(bundle)
	r, err := f.client().GetCCReport(t.Context(), rpc.CCReportParams{Nonce: nonce, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	data, err := rpc.ReportData(r.Claims)
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.Shared.ReportData(data)
	if err != nil {
		t.Fatal(err)
	}
	if q, err := dcap.ParseQuote(r.CCReport); err != nil || q.ReportData != want {
		t.Errorf("REPORTDATA is not %x: %v", want, err)
	}
	if !rpc.VerifyReportData(f.key, data, r.AgentSignature) {
		t.Error("the agent's signature is not over the claims")
	}
}
