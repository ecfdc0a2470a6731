// Package metrics answers: how often did something happen, and how long did it take?
//
// A manager counts in its own counters and histograms. Text writes them in the
// text form that Prometheus reads.
package metrics

import (
	"sync/atomic"
	"time"
)

// Bounds of histograms: from what a call in memory takes to what hardware does
// that is given up.
var Bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Histogram counts durations. Its zero value is one.
type Histogram struct {
	buckets [len(Bounds) + 1]atomic.Uint64 // those up to each bound, and the rest
	sum     atomic.Int64                   // nanoseconds
}

func (h *Histogram) Add(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Read returns how many there are in all, and up to each bound.
func (h *Histogram) Read() (count uint64, upTo [len(Bounds)]uint64, sum time.Duration) {
	sum = time.Duration(h.sum.Load())
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(Bounds) {
			upTo[i] = count
		}
	}
	return count, upTo, sum
}
