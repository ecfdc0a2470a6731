package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// missedCounts are the counts in the missed events of one reason, in order.
func missedCounts(t *testing.T, l *Ledger, why string) (counts []int) {
	t.Helper()
	for _, e := range all(t, l) {
		var m logs.MissedBody
		if e.Operation != logs.OpMissed {
			continue
		}
		if err := json.Unmarshal(e.Body(), &m); err != nil {
			t.Fatal(err)
		}
		if m.Why == why {
			counts = append(counts, m.Count)
		}
	}
	return counts
}

// A gap that could not be logged is logged before the next event.
func TestMissedIsLoggedLater(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	if err := l.Missed(t.Context(), "launch", "early"); err != nil || r.value != (hw.Digest{}) {
		t.Fatalf("logged before event 0: %v", err)
	}
	must(t, l, public(logs.OpStart))
	failing := errors.New("busy")
	r.onExtend = func(*register, hw.Digest) error { return failing }
	if err := l.Missed(t.Context(), "launch", "deadline"); !errors.Is(err, failing) {
		t.Fatalf("logged by a register that fails: %v", err)
	}
	r.onExtend = nil
	must(t, l, launch("a", "1"))
	if got := missedCounts(t, l, "deadline"); !slices.Equal(got, []int{1}) {
		t.Fatalf("logged %v", got)
	}
	events := all(t, l)
	if events[0].Operation != logs.OpStart || events[1].Operation != logs.OpMissed || events[2].Operation != logs.OpMissed {
		t.Errorf("%s, %s, %s stand first", events[0].Operation, events[1].Operation, events[2].Operation)
	}
	r.onExtend = func(*register, hw.Digest) error { return failing }
	l.Missed(t.Context(), "launch", "late")
	r.onExtend = nil
	if err := l.FlushMissed(t.Context()); err != nil || len(missedCounts(t, l, "late")) != 1 {
		t.Errorf("logged again: %v", err)
	}
	for i := range 1000 { // many reasons are counted as one
		if err := l.Missed(t.Context(), "launch", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := l.Snapshot(""); s.Count > 2*maxGaps {
		t.Errorf("%d events", s.Count)
	}
}
