package api

import (
	"fmt"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/rpc"
)

// counters count requests since the daemon started. The counters that every request
// updates need no lock.
type counters struct {
	byMethod map[string]*metrics.Histogram // never changed: no caller can add a name

	mu     sync.Mutex
	byCode map[rpc.Code]uint64 // refusals
}

func newCounters(methods []string) *counters {
	c := &counters{byMethod: make(map[string]*metrics.Histogram), byCode: make(map[rpc.Code]uint64)}
	for _, name := range methods {
		c.byMethod[name] = new(metrics.Histogram)
	}
	return c
}

func (c *counters) count(method string, took time.Duration, refused *rpc.Error) {
	if h := c.byMethod[method]; h != nil {
		h.Add(took)
	}
	if refused != nil {
		c.mu.Lock()
		c.byCode[refused.Code]++
		c.mu.Unlock()
	}
}

// calls is the number of requests that were answered, by method.
func (c *counters) calls() map[string]uint64 {
	calls := make(map[string]uint64)
	for name, h := range c.byMethod {
		if n, _, _ := h.Read(); n > 0 {
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
