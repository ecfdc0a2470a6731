package daemon

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/logs"
)

// execLoop executes a program many times and returns the time that took, in
// seconds.
const execLoop = `read a b </proc/uptime; i=0; while [ $i -lt %d ]; do /bin/true || exit 9; i=$((i+1)); done
	read c d </proc/uptime; echo $a $c`

// loopTwice runs two loops at a time and returns the seconds of the longer one.
func (f *fixture) loopTwice(id string, n int) float64 {
	f.t.Helper()
	var took [2]float64
	var both sync.WaitGroup
	for i := range took {
		both.Go(func() {
			out, err := inside(id, fmt.Sprintf(execLoop, n))
			var begin, end float64
			if _, failed := fmt.Sscan(out, &begin, &end); err != nil || failed != nil {
				f.t.Errorf("%v: %s", err, out)
			}
			took[i] = end - begin
		})
	}
	both.Wait()
	return max(took[0], took[1])
}

// An exec of a known program costs little: the same container with the daemon
// and without it, in turn.
func TestExecCost(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode = config.ExecMeasure })
	id := f.shell()
	n := size(200, 1500)
	var ratios []float64
	for range size(2, 12) {
		watched := f.ranBefore(id)
		f.stop()
		bare := f.loopTwice(id, n)
		stood := strings.Count(f.log.String(), "the gate stands")
		f.start()
		daemontest.Eventually(t, "the gate stands again", func() bool { return strings.Count(f.log.String(), "the gate stands") > stood })
		daemontest.Eventually(t, "the container is watched", func() bool { return f.ranBefore(id) > watched })
		inside(id, "true")
		measured := f.loopTwice(id, n)
		t.Logf("bare %.0f µs, measured %.0f µs an exec, two at a time", bare/float64(n)*1e6, measured/float64(n)*1e6)
		ratios = append(ratios, measured/bare)
	}
	slices.Sort(ratios)
	median := ratios[len(ratios)/2]
	t.Logf("2 × %d execs of a known program, measured to bare, %d pairs: median %.3f, from %.2f to %.2f", n, len(ratios), median, ratios[0], ratios[len(ratios)-1])
	if limit := 1.5; *whole && median > limit {
		t.Errorf("an exec takes %.2f times the bare one, and must take at most %.1f times", median, limit)
	}
}

// No exec is lost when two run at a time: each different program is in the log
// once, and no exec was missed.
func TestNoExecIsLost(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode = config.ExecMeasure })
	id := f.shell()
	programs, n := size(20, 200), size(500, 4600)
	script := func(name string) string {
		return fmt.Sprintf(`i=0; while [ $i -lt %d ]; do
			if [ $((i %% (%d / %d))) = 0 ]; then f=/%s$i; /bin/busybox printf '#!/bin/busybox true\n# %s %%d\n' $i >$f; /bin/busybox chmod 755 $f; $f || exit 9; fi
			/bin/true || exit 9; i=$((i+1)); done`, n, n, programs, name, name)
	}
	var both sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		both.Go(func() {
			if out, err := inside(id, script(name)); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	both.Wait()
	seen := map[string]int{}
	for _, e := range f.execsOf(id) {
		if e.SHA384 == nil {
			t.Errorf("without a digest: %+v", e)
			continue
		}
		seen[e.Path]++
	}
	for _, name := range []string{"a", "b"} {
		for i := 0; i < n; i += n / programs {
			if path := fmt.Sprintf("/%s%d", name, i); seen[path] != 1 {
				t.Errorf("%s is %d times in the log", path, seen[path])
			}
		}
	}
	// Each new program means three more execs: printf, chmod, and the
	// interpreter.
	t.Logf("%d execs, %d programs that differ, all in the log", 2*(n+4*programs), len(seen))
	for _, e := range f.events() {
		if e.Operation == logs.OpMissed {
			t.Errorf("missed: %s", e.Body())
		}
	}
	if log := f.log.String(); strings.Contains(log, "was not measured") {
		t.Error("an execution was not measured")
	}
	f.wantAuthentic(evidenceFrom(t, id))
}

// ranBefore is how often the log says that a container ran before its
// executions were watched: once for each daemon that starts to watch it.
func (f *fixture) ranBefore(id string) (n int) {
	for _, e := range f.execsOf(id) {
		if e.Missed == errRanBefore {
			n++
		}
	}
	return n
}

// errRanBefore is the text in exec events of a container that ran already.
const errRanBefore = "it ran before its executions were watched"
