package containers

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger/ledgertest"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/rpc"
)

// newManager makes a manager without records, engines and peers, on a ledger in
// memory.
func newManager(t *testing.T, change ...func(*config.Config)) *Manager {
	t.Helper()
	c := config.Default()
	for _, f := range change {
		f(&c)
	}
	store := records.New(records.Options{Places: []records.Place{}})
	m, err := New(Options{
		Ledger: ledgertest.Open(t), Records: func() *records.Store { return store },
		Config: func() *config.Config { return &c }, Log: slog.New(slog.DiscardHandler), Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// A caller whose container is being measured must retry.
func TestFactsWhileMeasuring(t *testing.T) { synctest.Test(t, factsWhileMeasuring) }

func factsWhileMeasuring(t *testing.T) {
	m := newManager(t)
	i := m.Use(peer.Container{ID: "c", Name: "c"}, 1, 0)
	if err := i.measuring.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	_, err := m.Facts(t.Context(), i, nil)
	var wire *rpc.Error
	if !errors.As(err, &wire) || wire.Code != rpc.CodeNotReady || wire.RetryAfter() == 0 {
		t.Errorf("%v", err)
	}
	if m.FactsNow(i) != nil {
		t.Error("facts of an instance that is not measured")
	}
}

// pendingExecs are executions, of which some of one owner are pending.
type pendingExecs struct {
	Execs
	owner string
}

func (p pendingExecs) Pending(owner string) bool { return owner == p.owner }

// Facts are returned inline only while no execution is pending.
func TestFactsNow(t *testing.T) {
	m := newManager(t)
	i := m.Use(peer.Container{ID: "c", Name: "c"}, 1, 0)
	f := &Facts{Instance: "1/1"}
	i.facts.Store(f)
	if m.FactsNow(i) != f {
		t.Error("known facts are not given")
	}
	m.SetExecs(pendingExecs{owner: "c"})
	if m.FactsNow(i) != nil {
		t.Error("facts are given while executions are pending")
	}
	m.SetExecs(pendingExecs{owner: "other"})
	if m.FactsNow(i) != f {
		t.Error("another container's executions delay these facts")
	}
}

// An instance is stored while somebody uses it.
func TestInstancesAreReleased(t *testing.T) {
	m := newManager(t)
	c := peer.Container{ID: "c", Name: "c"}
	i := m.Use(c, 1, 0)
	if j := m.Use(c, 1, 0); j != i {
		t.Error("two instances of one cgroup")
	}
	if j := m.Use(c, 2, 0); j == i || m.Count() != 2 {
		t.Errorf("another cgroup is the same instance; %d instances", m.Count())
	} else {
		m.Release(j)
	}
	m.Release(i)
	if m.Count() != 1 {
		t.Errorf("%d instances with a user left", m.Count())
	}
	m.Release(i)
	if m.Count() != 0 {
		t.Errorf("%d instances without users", m.Count())
	}
}
