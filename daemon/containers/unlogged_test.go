package containers

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/launch/launchtest"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/ledger/ledgertest"
	"github.com/cima-project/cima/logs"
)

// announced are the public events of power and of what was missed.
func (s *starts) announced() (all string) {
	for _, e := range ledgertest.Events(s, s.m.Ledger, "", logs.OpPower, logs.OpMissed) {
		all += e.Operation + string(e.Body())
	}
	return all
}

// A container that has used up its share of the log starts again. It is no missed start,
// its power is announced all the same, and it gets no evidence.
func TestSpentStart(t *testing.T) {
	for name, test := range map[string]struct {
		change launchtest.Change
		want   string
	}{
		"without power": {launchtest.Set("hostname", "x"), ""},
		"with power":    {launchtest.Set("process.capabilities.bounding", []any{"CAP_SYS_MODULE"}), "CAP_SYS_MODULE"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStarts(t)
			if _, err := s.m.Ledger.Append(t.Context(), ledger.Event{Operation: logs.OpLaunch, Owner: a, Instance: "before", Measured: map[string]any{}}); err != nil {
				t.Fatal(err)
			}
			s.m.Ledger.SetLimits(ledger.Limits{OwnerEvents: 1})
			s.bundle(a, test.change)
			s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
			c := s.make(a).ready()
			before := s.announced()
			s.want("start", s.g.decide(t.Context(), ordered("start", a)), nil)
			rec := c.record()
			if !s.g.isJudged(rec) || !s.m.unlogged.IsJudged(rec.Name, rec.StartKey()) || strings.Count(s.operations(a), "launch") != 1 {
				t.Errorf("judged %t, unlogged and judged %t, logged %q", s.g.isJudged(rec), s.m.unlogged.IsJudged(rec.Name, rec.StartKey()), s.operations(a))
			}
			if !strings.Contains(before, test.want) || strings.Contains(s.announced(), "missed") {
				t.Errorf("announced %s", s.announced())
			}
			if !strings.Contains(s.announced(), "namespace:") { // what the kernel shows of the test's process
				t.Errorf("announced at START: %s", s.announced())
			}
			c.released()
			i := s.m.Use(PeerContainer(rec), 7, 0)
			defer s.m.Release(i)
			now := s.announced()
			if _, err := s.m.Facts(t.Context(), i, func(context.Context) error { return nil }); !errors.Is(err, ledger.ErrSpent) {
				t.Errorf("its facts: %v", err)
			}
			if s.announced() != now {
				t.Errorf("announced when it asks: %s", s.announced())
			}
		})
	}
}

// The log is full. Containers that were judged at START are not announced; those that
// nobody judged are.
func TestStartBesideFullLog(t *testing.T) {
	s := newStarts(t)
	fill := 0
	s.m.Ledger.SetLimits(ledger.Limits{Shown: 128 << 10})
	for ; fill < 10_000; fill++ {
		if _, err := s.m.Ledger.Append(t.Context(), ledger.Event{Operation: logs.OpExit, Owner: "c", Measured: nil}); err != nil {
			break
		}
	}
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	c := s.make(a).ready()
	s.want("start", s.g.decide(t.Context(), ordered("start", a)), nil)
	c.released()
	ask := func(rec *made) {
		t.Helper()
		i := s.m.Use(PeerContainer(rec.record()), 7, 0)
		defer s.m.Release(i)
		if _, err := s.m.Facts(t.Context(), i, func(context.Context) error { return nil }); !errors.Is(err, ledger.ErrFull) {
			t.Errorf("its facts after %d events: %v", fill, err)
		}
	}
	ask(c)
	if all := s.announced(); strings.Contains(all, "unseen-start") || strings.Contains(all, `"what":"launch"`) {
		t.Errorf("of one that was judged: %s", all)
	}
	s.bundle(b)
	s.want("create", s.g.decide(t.Context(), ordered("create", b)), nil)
	unseen := s.make(b).ready()
	unseen.released()
	ask(unseen)
	if all := s.announced(); !strings.Contains(all, "unseen-start") {
		t.Errorf("of one that wasn't judged: %s", all)
	}
}
