package sim

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cima-project/cima/hw"
)

func TestFaultsOfExtend(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault Fault
		want  error
		done  bool
	}{
		{"busy before", Fault{Errno: syscall.EBUSY}, hw.ErrBusy, false},
		{"interrupted before", Fault{Errno: syscall.EINTR}, syscall.EINTR, false},
		{"failed after", Fault{Errno: syscall.EIO, After: true}, syscall.EIO, true},
		{"hangs before", Fault{Hang: true}, context.DeadlineExceeded, false},
		{"hangs after", Fault{Hang: true, After: true}, context.DeadlineExceeded, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, td := serve(t, Config{})
			start := m.read().RTMR[3]
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			test.fault.Op, test.fault.Skip, test.fault.Times = OpExtend, 1, 1
			if err := td.Inject(ctx, test.fault); err != nil {
				t.Fatal(err)
			}
			if err := td.Extend(ctx, hw.Digest{1}); err != nil {
				t.Fatalf("the call that passes: %v", err)
			}
			want := start.Extend(hw.Digest{1})
			if err := td.Extend(ctx, hw.Digest{2}); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if test.done {
				want = want.Extend(hw.Digest{2})
			}
			if got := m.read().RTMR[3]; got != want {
				t.Errorf("RTMR3 %s, want %s", got, want)
			}
			if err := td.Extend(context.Background(), hw.Digest{3}); err != nil {
				t.Errorf("the call after the fault: %v", err)
			}
		})
	}
}

func TestFaultsOfQuote(t *testing.T) {
	m, td := serve(t, Config{Faults: []Fault{
		{Op: OpQuote, Errno: syscall.ETIMEDOUT, Times: 1},
		{Op: OpQuote, Empty: true, Times: 1},
		{Op: OpRegisters, Errno: syscall.EIO, Times: 1},
	}})
	ctx := context.Background()
	if _, err := td.Quote(ctx, hw.ReportData{}); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("first quote: %v", err)
	}
	if _, err := td.Quote(ctx, hw.ReportData{}); !errors.Is(err, hw.ErrMalformed) {
		t.Errorf("empty quote: %v", err)
	}
	if _, err := td.Registers(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("registers: %v", err)
	}
	if quote, err := td.Quote(ctx, hw.ReportData{}); err != nil || judge(quote, m.RootPEM()) != nil {
		t.Errorf("the quote after the faults: %v", err)
	}
	if err := td.Inject(ctx, Fault{Op: OpQuote, After: true}); err == nil {
		t.Error("an impossible fault was accepted")
	}
}

// One quote is made at a time; a caller that leaves does not interrupt it.
func TestQuotesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = time.Second
		m, err := Boot(Config{QuoteDelay: delay})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now() // of the bubble
		brief, cancel := context.WithTimeout(t.Context(), delay/3)
		defer cancel()
		if _, err := m.Quote(brief, hw.ReportData{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("abandoned quote: %v", err)
		}
		if _, err := m.Quote(t.Context(), hw.ReportData{}); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 2*delay {
			t.Errorf("two quotes took %v, one alone takes %v", took, delay)
		}
	})
}

// A quote has the registers of its start, whatever happens until its end.
func TestQuoteIsOfItsBeginning(t *testing.T) {
	m, td := serve(t, Config{Faults: []Fault{{Op: OpQuote, Hang: true, Times: 1}}})
	before := m.read()
	landed := make(chan []byte)
	go func() {
		quote, err := td.Quote(context.Background(), hw.ReportData{})
		if err != nil {
			t.Error(err)
		}
		landed <- quote
	}()
	for flying := false; !flying; time.Sleep(time.Millisecond) {
		m.faults.mu.Lock()
		flying = m.faults.active[0].Times < 0
		m.faults.mu.Unlock()
	}
	if err := td.Extend(context.Background(), hw.Digest{1}); err != nil {
		t.Fatal(err)
	}
	if err := td.Inject(context.Background()); err != nil {
		t.Fatal(err)
	}
	const rtmr3 = 48 + 328 + 3*48 // header, body up to the RTMRs, RTMR0–2
	if quote := <-landed; !bytes.Equal(quote[rtmr3:rtmr3+48], before.RTMR[3][:]) {
		t.Error("the quote's RTMR3 is not that of its beginning")
	}
}

func TestHangingQuoteEndsWithTheFault(t *testing.T) {
	_, td := serve(t, Config{Faults: []Fault{{Op: OpQuote, Hang: true}}})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	for range 2 {
		if _, err := td.Quote(ctx, hw.ReportData{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hanging quote: %v", err)
		}
	}
	if err := td.Inject(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := td.Quote(context.Background(), hw.ReportData{}); err != nil {
		t.Errorf("after the hang: %v", err)
	}
}

// A caller that leaves stops waiting for its turn.
func TestGoneCallersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = time.Second
		m, err := Boot(Config{QuoteDelay: delay, Faults: []Fault{{Op: OpQuote, Hang: true, Times: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), delay/2)
		defer cancel()
		var gone sync.WaitGroup
		for range 20 {
			gone.Go(func() { m.Quote(ctx, hw.ReportData{}) })
		}
		gone.Wait()
		time.Sleep(delay)
		if err := m.Inject(); err != nil {
			t.Fatal(err)
		}
		start := time.Now() // of the bubble
		if _, err := m.Quote(t.Context(), hw.ReportData{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != delay {
			t.Errorf("a quote after 20 callers left took %v, one alone takes %v", took, delay)
		}
	})
}
