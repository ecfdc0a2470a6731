package daemon

import (
	"os"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// A daemon that stops measuring executions, because it may not or can't, logs
// that: otherwise the log's earlier exec events would pass for all.
func TestExecsNoMoreMeasured(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root for fanotify")
	}
	for name, c := range map[string]struct {
		then  func(c *config.Config)
		execs bool // before
		tells bool
	}{
		"off":             {func(c *config.Config) { c.Exec.Mode = config.ExecOff }, true, true},
		"off as before":   {func(c *config.Config) { c.Exec.Mode = config.ExecOff }, false, false},
		"without a gate":  {func(c *config.Config) { c.Exec.Mode, c.Gate.Mode = config.ExecMeasure, config.GateOff }, true, true},
		"no IMA log":      {func(c *config.Config) { c.Exec.Mode, c.Exec.Source = config.ExecMeasure, config.ExecByIMA }, true, true},
		"still as before": {func(c *config.Config) { c.Exec.Mode, c.Gate.Mode = config.ExecMeasure, config.GateOn }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.client().WhoAmI(t.Context()) // the daemon looks for executions before it answers
			for _, e := range []ledger.Event{
				{Operation: logs.OpLaunch, Owner: "c", Instance: "1/0", Measured: map[string]any{}},
				{Operation: logs.OpLaunch, Owner: "another", Instance: "2/0", Measured: map[string]any{}},
				{Operation: logs.OpExec, Owner: "c", Instance: "1/0", Measured: logs.ExecBody{Path: "/one", SHA384: &rpc.Digest{1}}},
			}[:map[bool]int{true: 3, false: 2}[c.execs]] {
				if _, err := f.daemon.ledger.Append(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			f.imaDir = t.TempDir()
			c.then(&f.config)
			for range 2 { // the second run logs nothing new
				f.stop()
				f.start()
				f.client().WhoAmI(t.Context()) // the gap is logged before any call is answered
			}
			events := f.events()
			logged := 0
			for _, e := range events {
				if e.Operation == logs.OpMissed && strings.Contains(string(e.Body()), "executions are not measured any more") {
					t.Errorf("the event must not be public: %s", e.Body())
				}
				if e.Operation == logs.OpExec && e.Container == "c" && string(e.Body()) == `{"missed":"executions are not measured any more"}` {
					logged++
				}
			}
			if logged > 1 || (logged == 1) != c.tells {
				t.Errorf("logged %d times", logged)
			}
		})
	}
}
