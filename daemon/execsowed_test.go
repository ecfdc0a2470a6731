package daemon

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// watchedFixture is a daemon with a container in its log whose executions are
// measured; nothing of it runs.
func watchedFixture(t *testing.T, configure ...func(*config.Config)) (*fixture, *execs, *watchedRoot) {
	t.Helper()
	f := newFixture(t, configure...)
	if err := f.daemon.ledger.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	launched := ledger.Event{Operation: logs.OpLaunch, Owner: "c", Instance: "1/0", Measured: map[string]any{}}
	if _, err := f.daemon.ledger.Append(t.Context(), launched); err != nil {
		t.Fatal(err)
	}
	x := &execs{g: f.daemon.gated, watched: make(map[string]*watchedRoot), devices: make(map[uint64]*watchedRoot)}
	w := &watchedRoot{owner: "c", instance: "1/0", saying: newLock(), traits: make(map[peer.Traits]bool)}
	x.watched["c"] = w
	return f, x, w
}

// What went on unmeasured and can't be logged is owed: no evidence before it is.
func TestGapIsOwed(t *testing.T) {
	f, x, w := watchedFixture(t)
	if err := x.settle(t.Context(), "c"); err != nil {
		t.Fatal("nothing is owed:", err)
	}
	f.inject(sim.Fault{Op: sim.OpExtend, Errno: syscall.EIO})
	x.gap(t.Context(), w, logs.ExecBody{Path: "/one", Missed: reason(gate.ErrTooLarge)})
	err := x.settle(t.Context(), "c")
	var wire *rpc.Error
	if !errors.As(err, &wire) || wire.Code != rpc.CodeNotReady {
		t.Errorf("with a gap that isn't logged: %v", err)
	}
	if err := x.settle(t.Context(), "another"); err != nil {
		t.Errorf("of another: %v", err)
	}
	x.gap(t.Context(), w, logs.ExecBody{Path: "/two", Missed: reason(gate.ErrDeadline)})
	f.inject()
	if err := x.settle(t.Context(), "c"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	got := f.execsOf("c")
	if len(got) == 0 || got[0].SHA384 != nil || got[0].Missed == "" {
		t.Errorf("logged: %+v", got)
	}
	if err := x.settle(t.Context(), "c"); err != nil || len(f.execsOf("c")) != len(got) {
		t.Errorf("paid twice: %v", err)
	}
}

// Where the log takes nothing of containers any more, all are told.
func TestGapInFullLogIsPublic(t *testing.T) {
	f, x, w := watchedFixture(t, func(c *config.Config) { c.Limits.LogBytes = 64 << 10 })
	for {
		_, err := f.daemon.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpExtend, Owner: "filler", Measured: logs.ExtendBody{Domain: "a", Operation: "b", Content: strings.Repeat("x", 200)}})
		if errors.Is(err, ledger.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		x.gap(t.Context(), w, logs.ExecBody{Path: strings.Repeat("/long", 200), Missed: reason(ledger.ErrFull)})
	}
	told := 0
	for _, e := range f.events() {
		if e.Operation == logs.OpMissed && strings.Contains(string(e.Body()), `"exec"`) {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if err := x.settle(t.Context(), "c"); err != nil {
		t.Errorf("it is told, and yet owed: %v", err)
	}
}

// What was said of one instance isn't said of the next.
func TestGapOfAnInstanceThatIsOver(t *testing.T) {
	f, x, w := watchedFixture(t)
	if _, err := f.daemon.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpLaunch, Owner: "c", Instance: "2/0", Measured: map[string]any{}}); err != nil {
		t.Fatal(err)
	}
	x.gap(t.Context(), w, logs.ExecBody{Missed: reason(gate.ErrDeadline)})
	if err := x.settle(t.Context(), "c"); err != nil || len(f.execsOf("c")) != 0 {
		t.Errorf("%v, logged: %+v", err, f.execsOf("c"))
	}
}
