package quotes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cima-project/cima/hw"
)

// stepped makes a quote at each step; the quote is the report data itself.
type stepped chan bool

func (s stepped) Quote(_ context.Context, data hw.ReportData) ([]byte, error) {
	<-s
	return data[:], nil
}

// A batch waits like one call, however many callers share it.
func TestBatchHasOneTurn(t *testing.T) { synctest.Test(t, batchHasOneTurn) }

func batchHasOneTurn(t *testing.T) {
	step := make(stepped)
	queue := NewQueue(step, 1, 100)
	s := NewBatches(queue)
	var mu sync.Mutex
	var order []string
	served := func(who string, _ []byte, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("%s: %v", who, err)
		}
		order = append(order, who)
	}
	var wg sync.WaitGroup
	waits := 0
	alone := func(key string) {
		wg.Go(func() {
			quote, err := queue.Quote(t.Context(), key, hw.ReportData{1})
			served(key, quote, err)
		})
		synctest.Wait()
		if n := queue.Waiting(); n != waits {
			t.Fatalf("%d calls wait, want %d", n, waits)
		}
		waits++
	}
	batch := func(callers int) {
		for i := range callers {
			data, payer := hw.ReportData{2, byte(i)}, fmt.Sprint(i)
			wg.Go(func() {
				quote, proof, err := s.Quote(t.Context(), payer, data, func() error { return nil })
				if err == nil && proof.Size != callers {
					err = fmt.Errorf("shared by %d, want %d", proof.Size, callers)
				}
				if want, _ := proof.ReportData(data); err == nil && string(quote) != string(want[:]) {
					err = errors.New("a proof of another quote")
				}
				served("batch", quote, err)
			})
		}
		synctest.Wait()
		if s.Joined() != callers || queue.Waiting() != waits {
			t.Fatalf("%d callers in the batch, %d calls wait; want %d and %d", s.Joined(), queue.Waiting(), callers, waits)
		}
		waits++
	}
	next := func(want string, n int) {
		t.Helper()
		step <- true
		synctest.Wait()
		if len(order) == 0 {
			t.Errorf("no call was served, want %s", want)
		}
		for _, who := range order {
			if who != want || len(order) != n {
				t.Errorf("served %v, want %s", order, want)
				break
			}
		}
		order = nil
		waits--
	}
	for range 5 {
		alone("flood")
	}
	batch(100)
	alone("other")
	next("flood", 1) // this one was in flight
	next("flood", 1) // this one was first in the queue
	next("batch", 100)
	batch(50) // behind the others again
	next("other", 1)
	next("flood", 1)
	next("batch", 50)
	next("flood", 1)
	next("flood", 1)
	wg.Wait()
}
