package daemon

import (
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/hw/sim"
)

// A container gets no evidence between an unmeasured exec and the event that
// reports it.
func TestNoEvidenceWhileExecsArePending(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode, c.Exec.MaxSize = config.ExecMeasure, 1<<20 })
	if len(fileOf(t, "busybox")) <= 1<<20 {
		t.Skip("left out: this busybox is too small to be too large")
	}
	id := f.shell()
	flushed := func() bool { return f.daemon.execs.Flush(t.Context(), id) == nil }
	daemontest.Eventually(t, "what ran so far is logged", flushed)
	f.inject(sim.Fault{Op: sim.OpExtend, Errno: syscall.EIO}) // nothing can be logged meanwhile
	if out, err := inside(id, `/bin/busybox cp /bin/busybox /busybox-other; /busybox-other true`); err != nil {
		t.Fatal(out)
	}
	if flushed() {
		t.Error("nothing is pending, with an execution that the log doesn't have")
	}
	f.inject()
	daemontest.Eventually(t, "all is logged", flushed)
	for _, e := range f.execsOf(id) {
		if e.Missed != "" && e.SHA384 == nil { // without a path if several were missed
			return
		}
	}
	t.Error("what was missed isn't in the log")
}
