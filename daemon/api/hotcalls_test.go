package api

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// hotCall is a call that containers make often, with its allowed cost.
type hotCall struct {
	name   string
	allocs float64 // at most; one more than needed, because the race detector empties pools
	do     func() (bytes int)
}

// hotCalls are answered from memory, to a container with some hundred events:
// one reads a register, the other a page of the log.
func hotCalls(t *testing.T) []hotCall {
	f := newFixture(t)
	s := eventful(t, f, "one", 300)
	c := &caller{Caller: &peer.Caller{}, owner: "one", instance: s.instance}
	c.setSubject()
	ctx := context.WithValue(t.Context(), callerKey{}, c)
	var measurement server.Handler
	for _, m := range f.api.callerMethods() {
		if m.Name == rpc.MethodGetCCMeasurement {
			measurement = m.Handler
		}
	}
	third := json.RawMessage(`{"index":3}`)
	var room []byte
	return []hotCall{
		{"GetCCMeasurement", 4, func() int {
			m, err := measurement(ctx, third)
			if err != nil {
				t.Fatal(err)
			}
			hash := m.(rpc.CCMeasurement).Hash
			return len(hash[:])
		}},
		{"GetCCEventLog", 6, func() int {
			page, err := f.api.ccEventLog(ctx, s, rpc.CCEventLogParams{})
			if err != nil {
				t.Fatal(err)
			}
			if room, err = page.AppendJSON(room[:0]); err != nil {
				t.Fatal(err)
			}
			return len(room)
		}},
	}
}

// Frequent calls allocate little. A page allocates only for the list of its
// pieces, which were encoded before.
func TestHotCallsAllocate(t *testing.T) {
	for _, call := range hotCalls(t) {
		n := testing.AllocsPerRun(200, func() { call.do() })
		t.Logf("%s: %.0f allocations, %d bytes", call.name, n, call.do())
		if n > call.allocs {
			t.Errorf("%s: %.0f allocations, more than %.0f", call.name, n, call.allocs)
		}
	}
}
