package daemon

import (
	"testing"

	"github.com/cima-project/cima/daemon/config"
)

// A container gets no evidence between an exec that went on unmeasured and the
// event that says so.
func TestNothingIsSettledUntold(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode, c.Exec.MaxSize = config.ExecMeasure, 1<<20 })
	if len(fileOf(t, "busybox")) <= 1<<20 {
		t.Skip("left out: this busybox is too small to be too large")
	}
	id := f.shell()
	x := f.daemon.gated.execs
	w := x.of(id)
	if w == nil || w.device == 0 {
		t.Fatal("the container isn't watched")
	}
	eventually(t, "what ran so far is told", func() bool { return x.settle(t.Context(), id) == nil })
	if err := w.saying.take(t.Context()); err != nil { // nothing is logged meanwhile
		t.Fatal(err)
	}
	if out, err := inside(id, `/bin/busybox cp /bin/busybox /busybox-other; /busybox-other true`); err != nil {
		w.saying.give()
		t.Fatal(out)
	}
	if x.settle(t.Context(), id) == nil {
		t.Error("settled, with an exec that nobody was told of")
	}
	w.saying.give()
	eventually(t, "all is told", func() bool { return x.settle(t.Context(), id) == nil })
	for _, e := range f.execsOf(id) {
		if e.Path != "" && e.Missed != "" && e.SHA384 == nil {
			return
		}
	}
	t.Error("what was missed isn't in the log")
}
