package daemon

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/rpc"
)

// counters count since the daemon started. What every request touches needs no
// lock.
type counters struct {
	byMethod map[string]*histogram // never changed: no caller can add a name

	mu     sync.Mutex
	byCode map[rpc.Code]uint64 // refusals

	extends, extendsFailed atomic.Uint64
	extending              histogram // what the hardware took for it
	quotes, quotesFailed   atomic.Uint64
	quoting                histogram
	given, givenShared     atomic.Uint64 // quotes that callers got

	runtimesHeld, execsHeld     histogram // at the gate, until decided
	launchesMissed, execsMissed atomic.Uint64
	launchesRepeated            atomic.Uint64 // measured in a crash loop, and not logged at once
}

func newCounters(methods []string) *counters {
	c := &counters{byMethod: make(map[string]*histogram), byCode: make(map[rpc.Code]uint64)}
	for _, name := range methods {
		c.byMethod[name] = new(histogram)
	}
	return c
}

func (c *counters) count(method string, took time.Duration, refused *rpc.Error) {
	if h := c.byMethod[method]; h != nil {
		h.add(took)
	}
	if refused != nil {
		c.mu.Lock()
		c.byCode[refused.Code]++
		c.mu.Unlock()
	}
}

// calls are those that have been answered, by method.
func (c *counters) calls() map[string]uint64 {
	calls := make(map[string]uint64)
	for name, h := range c.byMethod {
		if n, _, _ := h.read(); n > 0 {
			calls[name] = n
		}
	}
	return calls
}

func (c *counters) errors() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	errors := make(map[string]uint64, len(c.byCode))
	for code, n := range c.byCode {
		errors[fmt.Sprint(int(code))] = n
	}
	return errors
}

// did counts something that the hardware did, or failed to.
func did(h *histogram, done, failed *atomic.Uint64, begin time.Time, err error) {
	h.add(time.Since(begin))
	if err != nil {
		failed.Add(1)
	} else {
		done.Add(1)
	}
}

// bounds of histograms: from what a call in memory takes to what hardware does
// that is given up.
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// histogram counts durations. Its zero value is one.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64 // those up to each bound, and the rest
	sum     atomic.Int64                   // nanoseconds
}

func (h *histogram) add(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// read returns how many there are in all, and up to each bound.
func (h *histogram) read() (count uint64, upTo [len(bounds)]uint64, sum time.Duration) {
	sum = time.Duration(h.sum.Load())
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(bounds) {
			upTo[i] = count
		}
	}
	return count, upTo, sum
}
