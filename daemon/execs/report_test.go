package execs

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/ledger/ledgertest"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
	"golang.org/x/sync/semaphore"
)

// watched returns a manager with a container in its log whose executions are
// measured; no process of the container runs.
func watched(t *testing.T, change ...func(*ledger.Options)) (*Manager, *watchedRoot, *ledgertest.Register) {
	t.Helper()
	r := &ledgertest.Register{}
	change = append(change, func(o *ledger.Options) { o.Register = r })
	x := &Manager{
		Options: Options{
			Ledger: ledgertest.Open(t, change...), Log: slog.New(slog.DiscardHandler),
			Config: func() *config.Config { c := config.Default(); return &c },
		},
		watched: make(map[string]*watchedRoot), devices: make(map[uint64]*watchedRoot),
	}
	add(t, x, ledger.Event{Operation: logs.OpLaunch, Owner: "c", Instance: "1/0", Measured: map[string]any{}})
	w := &watchedRoot{owner: "c", instance: "1/0", writeLock: semaphore.NewWeighted(1), traits: make(map[peer.Traits]bool)}
	x.watched["c"] = w
	return x, w, r
}

func add(t *testing.T, x *Manager, e ledger.Event) {
	t.Helper()
	if _, err := x.Ledger.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// logged are the exec events of the container.
func logged(t *testing.T, x *Manager) (bodies []logs.ExecBody) {
	t.Helper()
	for _, e := range ledgertest.Events(t, x.Ledger, "c", logs.OpExec) {
		var b logs.ExecBody
		if err := json.Unmarshal(e.Body(), &b); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, b)
	}
	return bodies
}

// An execution without a digest that can't be logged is pending: there is no
// evidence until it is logged.
func TestGapIsPending(t *testing.T) {
	x, w, r := watched(t)
	if err := x.Flush(t.Context(), "c"); err != nil {
		t.Fatal("nothing is pending:", err)
	}
	r.Fail(&hw.Error{Op: hw.OpExtend, Err: syscall.EIO})
	x.gap(t.Context(), w, logs.ExecBody{Path: "/one", Missed: publicReason(gate.ErrTooLarge)})
	err := x.Flush(t.Context(), "c")
	var wire *rpc.Error
	if !errors.As(err, &wire) || wire.Code != rpc.CodeNotReady {
		t.Errorf("with a gap that isn't logged: %v", err)
	}
	if err := x.Flush(t.Context(), "another"); err != nil {
		t.Errorf("of another: %v", err)
	}
	x.gap(t.Context(), w, logs.ExecBody{Path: "/two", Missed: publicReason(gate.ErrDeadline)})
	r.Fail(nil)
	if err := x.Flush(t.Context(), "c"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	got := logged(t, x)
	if len(got) == 0 || got[0].SHA384 != nil || got[0].Missed == "" {
		t.Errorf("logged: %+v", got)
	}
	if err := x.Flush(t.Context(), "c"); err != nil || len(logged(t, x)) != len(got) {
		t.Errorf("logged twice: %v", err)
	}
}

// When the log accepts no more events of containers, a public event reports
// that.
func TestGapInFullLogIsPublic(t *testing.T) {
	x, w, _ := watched(t, func(o *ledger.Options) {
		c := config.Default()
		c.Limits.LogBytes = 64 << 10
		o.Limits = c.LogLimits(config.Budget{})
	})
	for i := 0; ; i++ { // one alone can't fill it
		_, err := x.Ledger.Append(t.Context(), ledger.Event{Operation: logs.OpExtend, Owner: fmt.Sprint("filler", i), Measured: logs.ExtendBody{Domain: "a", Operation: "b", Content: strings.Repeat("x", 200)}})
		if errors.Is(err, ledger.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		x.gap(t.Context(), w, logs.ExecBody{Path: strings.Repeat("/long", 200), Missed: publicReason(ledger.ErrFull)})
	}
	times := 0
	for _, e := range ledgertest.Events(t, x.Ledger, "", logs.OpMissed) {
		if e.Operation == logs.OpMissed && strings.Contains(string(e.Body()), `"exec"`) {
			times++
		}
	}
	if times != 1 {
		t.Errorf("logged %d times", times)
	}
	if err := x.Flush(t.Context(), "c"); err != nil {
		t.Errorf("it is logged, and yet pending: %v", err)
	}
}

// A gap of one instance is not logged for the next.
func TestGapOfAnInstanceThatIsOver(t *testing.T) {
	x, w, _ := watched(t)
	if _, err := x.Ledger.Append(t.Context(), ledger.Event{Operation: logs.OpLaunch, Owner: "c", Instance: "2/0", Measured: map[string]any{}}); err != nil {
		t.Fatal(err)
	}
	x.gap(t.Context(), w, logs.ExecBody{Missed: publicReason(gate.ErrDeadline)})
	if err := x.Flush(t.Context(), "c"); err != nil || len(logged(t, x)) != 0 {
		t.Errorf("%v, logged: %+v", err, logged(t, x))
	}
}

// A content is logged once, under whatever name and with whatever digests:
// known contents are looked up by SHA-384 alone.
func TestContentIsLoggedOnce(t *testing.T) {
	d := rpc.Digest{1}
	if got := keyOf(logs.ExecBody{Path: "/a", SHA384: &d, Verity: "sha256:aa"}); got != (eventKey{digest: d}) {
		t.Errorf("%+v", got)
	}
	large := logs.ExecBody{Path: "/a", Verity: "sha256:aa"}
	if got := keyOf(large); got != (eventKey{ExecBody: large}) {
		t.Errorf("%+v", got)
	}
}
