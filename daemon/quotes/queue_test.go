package quotes

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
)

// bench is a quoter that lets one quote go at each step.
type bench struct {
	step   chan bool
	mu     sync.Mutex
	served []byte // the first byte of each report data, in order
	now    int
	most   int
}

func (b *bench) Quote(ctx context.Context, data hw.ReportData) ([]byte, error) {
	b.mu.Lock()
	b.served = append(b.served, data[0])
	b.now++
	b.most = max(b.most, b.now)
	b.mu.Unlock()
	defer func() { b.mu.Lock(); b.now--; b.mu.Unlock() }()
	select {
	case <-b.step:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// await waits until the queue holds n calls.
func await(t *testing.T, q *Queue, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); q.Waiting() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d calls wait, want %d", q.Waiting(), n)
		}
	}
}

// One container makes many requests over many connections, and two others make
// one each: these two wait for one quote of the first each, not for all.
func TestQueueIsFairByKey(t *testing.T) {
	b := &bench{step: make(chan bool)}
	q := NewQueue(b, 1, 100)
	var wg sync.WaitGroup
	waits := 0
	ask := func(key string) {
		before := waits
		wg.Go(func() {
			if _, err := q.Quote(context.Background(), key, hw.ReportData{key[0]}); err != nil {
				t.Error(err)
			}
		})
		if before == 0 {
			for b.taken() == 0 {
				time.Sleep(time.Millisecond)
			}
		} else {
			await(t, q, before)
		}
		waits++
	}
	for range 6 {
		ask("a")
	}
	ask("b")
	ask("c")
	ask("b")
	for range 9 {
		b.step <- true
	}
	wg.Wait()
	if got := string(b.served); got != "aabcabaaa" {
		t.Errorf("served in the order %s, want aabcabaaa", got)
	}
	if b.most != 1 {
		t.Errorf("%d at once", b.most)
	}
}

func (b *bench) taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.served)
}

func TestQueueForgetsWhoLeaves(t *testing.T) {
	b := &bench{step: make(chan bool)}
	q := NewQueue(b, 1, 2)
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error)
	go func() { _, err := q.Quote(context.Background(), "a", hw.ReportData{'1'}); first <- err }()
	for b.taken() == 0 {
		time.Sleep(time.Millisecond)
	}
	left := make(chan error)
	for range 2 {
		go func() { _, err := q.Quote(ctx, "a", hw.ReportData{'x'}); left <- err }()
	}
	await(t, q, 2)
	if _, err := q.Quote(context.Background(), "a", hw.ReportData{}); !errors.Is(err, hw.ErrBusy) {
		t.Errorf("a third that waits: %v", err)
	}
	go func() { _, err := q.Quote(context.Background(), "b", hw.ReportData{'2'}); left <- err }()
	await(t, q, 3)
	cancel()
	for range 2 {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: %v", err)
		}
	}
	await(t, q, 1)
	b.step <- true
	if err := <-first; err != nil {
		t.Error(err)
	}
	b.step <- true
	if err := <-left; err != nil {
		t.Error(err)
	}
	if !slices.Equal(b.served, []byte("12")) {
		t.Errorf("served %q", b.served)
	}
	if _, err := q.Quote(ctx, "a", hw.ReportData{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left before: %v", err)
	}
	go func() { b.step <- true }()
	if _, err := q.Quote(context.Background(), "a", hw.ReportData{}); err != nil {
		t.Errorf("the turn was lost: %v", err)
	}
}

// Turns are neither lost nor doubled, no matter which caller leaves when.
func TestQueueUnderLoad(t *testing.T) {
	b := &bench{step: make(chan bool)}
	close(b.step)
	q := NewQueue(b, 3, 1000)
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%7)*100*time.Microsecond)
			defer cancel()
			_, _ = q.Quote(ctx, string(rune('a'+i%11)), hw.ReportData{})
		})
	}
	wg.Wait()
	if b.most > 3 || q.Waiting() != 0 {
		t.Errorf("%d at once, %d wait", b.most, q.Waiting())
	}
	for range 3 { // all three turns must still be there
		if _, err := q.Quote(context.Background(), "z", hw.ReportData{}); err != nil {
			t.Error(err)
		}
	}
}

// Report data that are computed late are requested when the turn has come; if
// there are none, the turn passes to the next call.
func TestQueueAsksForLateData(t *testing.T) {
	b := &bench{step: make(chan bool)}
	q := NewQueue(b, 1, 100)
	var wg sync.WaitGroup
	wg.Go(func() { q.Quote(t.Context(), "a", hw.ReportData{1}) })
	await(t, q, 0)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		begun := b.now
		b.mu.Unlock()
		if begun == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the first quote does not begin")
		}
	}
	nothing := errors.New("nothing to quote")
	asked := make(chan byte, 2)
	late := func(key string, data byte, err error) {
		wg.Go(func() {
			_, got := q.quoteLate(t.Context(), key, func() (hw.ReportData, error) {
				asked <- data
				return hw.ReportData{data}, err
			})
			if got != err {
				t.Errorf("%s: %v, want %v", key, got, err)
			}
		})
	}
	late("b", 2, nothing)
	await(t, q, 1)
	late("c", 3, nil)
	await(t, q, 2)
	if len(asked) != 0 {
		t.Error("data were asked for before the turn came")
	}
	b.step <- true // a's
	b.step <- true // c's: b had no data
	wg.Wait()
	if got := []byte{<-asked, <-asked}; !slices.Equal(got, []byte{2, 3}) || !slices.Equal(b.served, []byte{1, 3}) {
		t.Errorf("asked in the order %v, served %v", got, b.served)
	}
}
