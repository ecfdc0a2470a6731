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

// A gap is logged and then an event, and the hardware fails at any of their steps: an
// extend is refused, or is carried out and refused, or a register can't be read. Once it
// works again log and register agree, and the log holds what was acknowledged, once.
func TestFaultsAtEachStepOfGapAndEvent(t *testing.T) {
	const steps = 6
	failing := errors.New("busy")
	for plan := range 729 { // 3 to the power of steps
		r := &register{}
		l := open(t, t.TempDir(), r)
		must(t, l, public(logs.OpStart))
		left, rest := steps, plan
		fault := func() (kind int) {
			if left == 0 {
				return 0
			}
			left--
			kind, rest = rest%3, rest/3
			return kind
		}
		r.onRead = func() error {
			if fault() != 0 {
				return failing
			}
			return nil
		}
		r.onExtend = func(r *register, d hw.Digest) error {
			kind := fault()
			if kind != 1 {
				r.value = r.value.Extend(d)
			}
			if kind != 0 {
				return failing
			}
			return nil
		}
		missed := l.Missed(t.Context(), "launch", "deadline")
		_, launched := l.Append(t.Context(), launch("a", "1"))
		r.onRead, r.onExtend = nil, nil
		if err := l.Check(t.Context()); err != nil {
			t.Fatalf("plan %d: %v (the gap: %v; the launch: %v)", plan, err, missed, launched)
		}
		must(t, l, launch("b", "1"))
		if got := missedCounts(t, l, "deadline"); !slices.Equal(got, []int{1}) {
			t.Fatalf("plan %d: the gap is logged %v", plan, got)
		}
		n := 0
		for _, e := range all(t, l) {
			if e.Operation == logs.OpLaunch && e.Container == "a" {
				n++
			}
		}
		if n > 1 || launched == nil && n == 0 {
			t.Fatalf("plan %d: the launch is %d times in the log, its error is %v", plan, n, launched)
		}
	}
}
