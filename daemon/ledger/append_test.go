package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// BenchmarkAppend writes an event ahead, extends and commits it; the register
// is in memory.
func BenchmarkAppend(b *testing.B) {
	l := filled(b)
	before := l.Status().Bytes
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := l.Append(b.Context(), extend("3", fmt.Sprint("event ", i))); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.Status().Bytes-before)/float64(b.N), "written-B/op")
}

// Whatever an extend returns, the register decides.
func TestExtendOutcomes(t *testing.T) {
	eio := fmt.Errorf("extend: %w", unix.EIO)
	tests := []struct {
		name     string
		onExtend func(*register, hw.Digest) error
		logged   bool
	}{
		{"failed and not done", func(*register, hw.Digest) error { return eio }, false},
		{"failed and yet done", func(r *register, d hw.Digest) error { r.value = r.value.Extend(d); return eio }, true},
		{"reported done and not done", func(*register, hw.Digest) error { return nil }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, r := t.TempDir(), &register{}
			l := open(t, dir, r)
			must(t, l, public(logs.OpStart))
			r.onExtend = tt.onExtend
			_, err := l.Append(t.Context(), launch("a", "1"))
			if (err == nil) != tt.logged {
				t.Fatalf("append: %v; logged should be %v", err, tt.logged)
			}
			r.onExtend = nil
			must(t, l, launch("b", "2"))
			want := 2
			if tt.logged {
				want = 3
			}
			if s, err := l.Snapshot("b"); err != nil || s.Count != want || s.Register != r.value {
				t.Fatalf("%d events, want %d; %v", s.Count, want, err)
			}
		})
	}
}

// An event of an instance that has ended doesn't go into the register of the
// next instance.
func TestEventsOfAnInstanceThatIsOver(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	must(t, l, launch("a", "1"))
	late := extend("a", "late")
	late.Instance = "1"
	must(t, l, late, launch("a", "2"))
	before, _ := l.Snapshot("a")
	for _, e := range []Event{late, {Operation: logs.OpExit, Owner: "a", Instance: "1"}, {Operation: logs.OpExit, Owner: "b", Instance: "1"}} {
		if _, err := l.Append(t.Context(), e); !errors.Is(err, ErrReplaced) {
			t.Errorf("%s of the first instance: %v", e.Operation, err)
		}
	}
	if after, _ := l.Snapshot("a"); after != before {
		t.Errorf("the log went on: %+v, then %+v", before, after)
	}
}

// Many writers, viewers, failures and kills of the daemon in random order:
// acknowledged events are in the log, and log and register agree.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		dir, r := t.TempDir(), &register{}
		fail := func(r *register, d hw.Digest) error {
			switch rnd.IntN(4) {
			case 0:
				return unix.EBUSY
			case 1:
				r.value = r.value.Extend(d)
				return unix.EINTR
			}
			r.value = r.value.Extend(d)
			return nil
		}
		r.onExtend = fail
		l := open(t, dir, r)
		acknowledged := 0
		for step := range 60 {
			_, err := l.Append(t.Context(), extend(fmt.Sprint("c", rnd.IntN(3)), fmt.Sprint(step)))
			if err == nil {
				acknowledged++
			}
			if rnd.IntN(10) == 0 {
				l.Close()
				before := r.value
				if rnd.IntN(2) == 0 { // the daemon died after writing ahead
					writeAhead(t, dir, before)
				}
				l = open(t, dir, r)
			}
		}
		s, err := l.Snapshot("c1")
		if err != nil || s.Register != r.value || s.Count != acknowledged {
			t.Fatalf("seed %d: %d events, %d acknowledged, %v", seed, s.Count, acknowledged, err)
		}
		view, err := l.View(t.Context(), "c1", s, hw.Registers{RTMR: [4]hw.Digest{3: r.value}}, ShowDigests)
		if err != nil || replay(t, view) != r.value {
			t.Fatalf("seed %d: view: %v", seed, err)
		}
		l.Close()
	}
}

func TestConcurrentUse(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	must(t, l, public(logs.OpStart))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("c", w)
			for i := range 25 {
				if _, err := l.Append(t.Context(), extend(name, fmt.Sprint(i))); err != nil {
					t.Error(err)
					return
				}
				s, err := l.Snapshot(name)
				if err != nil {
					t.Error(err)
					return
				}
				now, _ := r.Registers(t.Context()) // like a quote, whose register may be ahead of the log
				view, err := l.View(t.Context(), name, s, now, ShowDigests)
				if err != nil || replay(t, view) != now.RTMR[3] {
					t.Errorf("view: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A caller that gave up a launch, its mounts, an image or an exit may repeat it: each
// is logged once.
func TestAskedAgainLoggedOnce(t *testing.T) { synctest.Test(t, askedAgainLoggedOnce) }

func askedAgainLoggedOnce(t *testing.T) {
	l, h := openHung(t)
	for _, e := range []Event{
		launch("b", "1"),
		{Operation: logs.OpMounted, Owner: "b", Instance: "1", Measured: map[string]any{"mounts": []any{}}},
		{Operation: logs.OpImage, Owner: "b", Instance: "1", Measured: map[string]any{"reference": "x"}},
		{Operation: logs.OpExit, Owner: "b", Instance: "1"},
	} {
		h.extends.Add(1)
		wantGaveUp(t, e.Operation, soon(t, e.Operation, func(ctx context.Context) error {
			_, err := l.Append(ctx, e)
			return err
		}))
		h.extends.Done()
		must(t, l, e) // again
	}
	must(t, l, launch("b", "2"), Event{Operation: logs.OpImage, Owner: "b", Instance: "2", Measured: map[string]any{"reference": "x"}})
	if s, _ := l.Snapshot("b"); s.Count != 8 || s.Owner.Events != 2 || s.Register != h.value {
		t.Errorf("%+v", s)
	}
}
