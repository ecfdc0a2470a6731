package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

func openLimited(t *testing.T, dir string, r *register, limits Limits) *Ledger {
	t.Helper()
	return openWith(t, Options{Dir: dir, Register: r, Limits: limits})
}

// fill logs launches of new containers until the log accepts no more.
func fill(t *testing.T, l *Ledger) (taken int) {
	t.Helper()
	for ; ; taken++ {
		_, err := l.Append(t.Context(), launch(fmt.Sprint("c", taken), "1"))
		if errors.Is(err, ErrFull) && !errors.Is(err, ErrSpent) {
			return taken
		}
		if err != nil || taken > 10000 {
			t.Fatalf("event %d: %v", taken, err)
		}
	}
}

func TestOwnersLimits(t *testing.T) {
	r := &register{}
	l := openLimited(t, t.TempDir(), r, Limits{OwnerEvents: 3})
	must(t, l, public(logs.OpStart))
	must(t, l, launch("a", "1"), extend("a", "1"), extend("a", "2"))
	if _, err := l.Append(t.Context(), extend("a", "3")); !errors.Is(err, ErrSpent) {
		t.Fatalf("fourth event of a: %v", err)
	}
	last := extend("a", "3") // an excess is logged once
	last.Last = true
	must(t, l, last)
	if _, err := l.Append(t.Context(), last); !errors.Is(err, ErrSpent) {
		t.Fatalf("a second event past a's bound: %v", err)
	}
	must(t, l, launch("1000/x", "1"), extend("1000/y", "1"), extend("1000/z", "1"))
	if _, err := l.Append(t.Context(), launch("1000/w", "1")); !errors.Is(err, ErrSpent) || !strings.Contains(err.Error(), "uid 1000") {
		t.Fatalf("a user's fourth event, by another container: %v", err)
	}
	if s, _ := l.Snapshot(""); s.Register != r.value || len(missedCounts(t, l, ErrFull.Error())) > 0 {
		t.Fatal("what one container used up is its own affair")
	}
}

// A public event is charged to the container that caused it, after a restart
// too. Power is logged beyond the share, so that other events can't hide it.
func TestPublicEventsAreCharged(t *testing.T) {
	dir, r, limits := t.TempDir(), &register{}, Limits{OwnerEvents: 5}
	power := func(class int) Event {
		return Event{Operation: logs.OpPower, Charge: "a", Once: true, Measured: map[string]any{"classes": []string{fmt.Sprint(class)}}}
	}
	l := openLimited(t, dir, r, limits)
	must(t, l, power(1), power(2), power(1), power(2), launch("a", "1"), extend("a", "1"), extend("a", "2"))
	if s, _ := l.Snapshot(""); s.Count != 5 {
		t.Fatalf("%d events: one was logged again", s.Count)
	}
	l.Close()
	l = openLimited(t, dir, r, limits)
	must(t, l, power(1)) // this one was logged before
	if got := l.Status().Power; !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("the log announces the power %q", got)
	}
	if _, err := l.Append(t.Context(), extend("a", "x")); !errors.Is(err, ErrSpent) {
		t.Fatalf("a sixth event of a: %v", err)
	}
	for n := range powers {
		must(t, l, power(3+n))
	}
	if _, err := l.Append(t.Context(), power(3+powers)); !errors.Is(err, ErrSpent) {
		t.Fatalf("power beyond what is kept for it: %v", err)
	}
	must(t, l, public(logs.OpPolicy)) // no container causes this one
}

// A launch is taken only if its mounted and its image event will be.
func TestLaunchLeavesRoom(t *testing.T) {
	l := openLimited(t, t.TempDir(), &register{}, Limits{OwnerEvents: 8})
	must(t, l, public(logs.OpStart), launch("a", "1"))
	for i := range 4 {
		must(t, l, extend("a", fmt.Sprint(i)))
	}
	must(t, l, launch("a", "2"), extend("a", "x"), Event{Operation: logs.OpImage, Owner: "a", Instance: "2", Measured: map[string]any{}})
	if _, err := l.Append(t.Context(), launch("a", "3")); !errors.Is(err, ErrSpent) {
		t.Fatalf("a launch without room: %v", err)
	}
}

// Some payers that log all they may leave room for others: shares shrink as the log
// fills. Each may cause what its starts need.
func TestSharesShrink(t *testing.T) {
	l := openLimited(t, t.TempDir(), &register{}, Limits{OwnerEvents: 100, Shown: 100 << 10})
	must(t, l, public(logs.OpStart))
	spent := func(payer string) (n int) {
		for ; ; n++ {
			e := extend(payer, fmt.Sprint(n))
			if n == 0 {
				e = launch(payer, "1")
			}
			if _, err := l.Append(t.Context(), e); errors.Is(err, ErrSpent) {
				return n
			} else if err != nil {
				return -1 // the log is full for all
			}
		}
	}
	first := spent("0")
	var all []int
	for i := range 12 { // together all of the log, if each had its whole share
		all = append(all, spent(fmt.Sprint(1+i)))
	}
	if first < 90 || all[11] >= 60 || all[11] < everybodys || !slices.IsSortedFunc(all, func(a, b int) int { return b - a }) {
		t.Errorf("the first caused %d events, those after it %v", first, all)
	}
}

// At the log's bounds new events are refused, every caller gets the error, and
// the events that all must see still fit.
func TestFullLogIsPublic(t *testing.T) {
	for name, limits := range map[string]Limits{
		"file":     {Bytes: 32 << 10},
		"evidence": {Shown: 16 << 10},
		"whole":    {Shown: 16 << 10, Whole: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, r := t.TempDir(), &register{}
			l := openLimited(t, dir, r, limits)
			must(t, l, public(logs.OpStart))
			if fill(t, l) < 10 {
				t.Fatal("hardly anything was accepted")
			}
			for range 99 {
				if _, err := l.Append(t.Context(), launch("more", "1")); !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
			if got := missedCounts(t, l, ErrFull.Error()); !slices.Equal(got, []int{1, 2, 4, 8, 16, 32, 64}) {
				t.Errorf("of 100 refused events %v are logged", got)
			}
			l.Close()
			l = openLimited(t, dir, r, limits)
			must(t, l, public(logs.OpStart))
			if _, err := l.Append(t.Context(), launch("more", "1")); !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			if got := missedCounts(t, l, ErrFull.Error()); len(got) != 7 {
				t.Errorf("the restarted daemon counts %v", got)
			}
			// Power of the host is logged as long as it fits, and then one
			// event that it no longer fits.
			for i := range 2000 {
				_, err := l.Append(t.Context(), Event{Operation: logs.OpPower, Measured: map[string]any{"classes": []int{i}}})
				if errors.Is(err, ErrFull) {
					break
				}
				if err != nil || i == 1999 {
					t.Fatalf("power %d: %v", i, err)
				}
			}
			for range 64 {
				if _, err := l.Append(t.Context(), Event{Operation: logs.OpPower, Measured: map[string]any{"classes": []int{-1}}}); !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
			if got := missedCounts(t, l, ErrFull.Error()); len(got) != 8 {
				t.Errorf("power that could not be logged: %v", got)
			}
			must(t, l, public(logs.OpStart), public(logs.OpPolicy), public(logs.OpSeal))
			if s, err := l.Snapshot(""); err != nil || s.Register != r.value {
				t.Fatal("log and register disagree at the limit")
			}
		})
	}
}

// The log adds at most Shown bytes to every evidence, and a container's own
// events at most OwnerShown bytes in addition.
func TestShownIsWhatEvidenceHolds(t *testing.T) {
	for _, whole := range []bool{false, true} {
		limits := Limits{Shown: 24 << 10, OwnerShown: 4 << 10, Whole: whole}
		r := &register{}
		l := openLimited(t, t.TempDir(), r, limits)
		must(t, l, public(logs.OpStart), launch("a", "1"))
		for i := 0; ; i++ {
			if _, err := l.Append(t.Context(), extend("a", strings.Repeat("x", i))); errors.Is(err, ErrFull) {
				break
			}
			l.Append(t.Context(), launch(fmt.Sprint("b", i), "1"))
			l.Append(t.Context(), Event{Operation: logs.OpPower, Measured: map[string]any{"classes": []int{i}}})
		}
		fill(t, l)
		s, _ := l.Snapshot("a")
		show := ShowDigests
		if whole {
			show = ShowAll
		}
		view, err := l.View(t.Context(), "a", s, hw.Registers{RTMR: [4]hw.Digest{3: r.value}}, show)
		if err != nil || replay(t, view) != r.value {
			t.Fatalf("whole %v: %v", whole, err)
		}
		size := 0
		for _, e := range view {
			size += len(`{"digests":""},`) + base64.StdEncoding.EncodedLen(len(e.Event)+len(e.Digests))
		}
		if most := limits.Shown + limits.OwnerShown; int64(size) > most || int64(size) < most/3 {
			t.Errorf("whole %v: %d bytes of evidence, of %d", whole, size, most)
		}
	}
}

// The last event of an owner fits even if its own evidence is full.
func TestLastIsShown(t *testing.T) {
	r := &register{}
	l := openLimited(t, t.TempDir(), r, Limits{OwnerShown: 2 << 10})
	must(t, l, launch("a", "1"))
	for {
		if _, err := l.Append(t.Context(), extend("a", "x")); errors.Is(err, ErrSpent) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	last := extend("a", "more")
	last.Last = true
	must(t, l, last)
}
