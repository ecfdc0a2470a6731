// Package ledgertest answers: what does a manager's test log to?
//
// It opens a ledger on a register in memory, so that a test of a manager needs no
// daemon, no hardware and no simulated TD. Tests alone import it.
package ledgertest

import (
	"context"
	"sync"
	"testing"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// Register is RTMR3 in memory. While Err is set, extends fail with it.
type Register struct {
	mu    sync.Mutex
	value hw.Digest
	err   error
}

// Fail makes extends fail with err from now on; nil: they work.
func (r *Register) Fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// Registers returns the registers, of which only RTMR3 is ever nonzero.
func (r *Register) Registers(context.Context) (hw.Registers, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return hw.Registers{RTMR: [4]hw.Digest{3: r.value}}, nil
}

// Extend extends RTMR3.
func (r *Register) Extend(_ context.Context, d hw.Digest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.value = r.value.Extend(d)
	return nil
}

// Open opens a ledger in a folder of the test's, which holds a start event. change may
// change its options.
func Open(t testing.TB, change ...func(*ledger.Options)) *ledger.Ledger {
	t.Helper()
	o := ledger.Options{Dir: t.TempDir(), Register: &Register{}, BootID: "boot", Anchor: logs.AnchorRTMR3}
	for _, c := range change {
		c(&o)
	}
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	start := ledger.Event{Operation: logs.OpStart, Measured: logs.StartBody{Version: "test"}}
	if err := l.Begin(t.Context(), func(context.Context) (ledger.Event, error) { return start, nil }); err != nil {
		t.Fatal(err)
	}
	return l
}

// Events returns the events that owner sees in full, and whose operation is one of
// operations.
func Events(t testing.TB, l *ledger.Ledger, owner string, operations ...string) (found []logs.Event) {
	t.Helper()
	at, err := l.Snapshot(owner)
	if err != nil {
		t.Fatal(err)
	}
	view, err := l.View(t.Context(), owner, at, at.Quoted(), ledger.ShowDigests)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range view {
		if entry.Event == nil {
			continue
		}
		e, err := logs.ParseEvent(entry.Event)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range operations {
			if e.Operation == o {
				found = append(found, e)
			}
		}
	}
	return found
}
