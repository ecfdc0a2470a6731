package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// A container kills the daemon as its first act: the log has its launch by
// then, and before that its power event.
func TestKilledByItsFirstAct(t *testing.T) {
	dir, runtime, podman := ownGate(t)
	s := startSimulated(t, "msg=ready", "/proc/self/exe", stormedCommand, dir, runtime)
	if log := s.log.String(); !strings.Contains(log, "the gate stands") {
		t.Skip("left out: no gate:", log)
	}
	pid := s.Process.Pid // of this test's own daemon
	const name = "cima-first-act"
	t.Cleanup(func() { podman("rm", "-f", "-t", "0", name) })
	id, err := podman("run", "-d", "--name", name, "--network", "none", "--pid", "host", "--cap-add", "KILL", podmanImage,
		"/bin/busybox", "sh", "-c", fmt.Sprintf("kill -9 %d; exec /bin/busybox sleep 60", pid))
	if err != nil {
		t.Fatal(err)
	}
	s.Wait()
	if status, ok := s.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the daemon ended by %v", s.ProcessState)
	}
	f, err := os.Open(filepath.Join(dirsUnder(dir).log, ledger.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var power, launch bool
	for r, err := range logs.UnverifiedRuntimeRecords(f) {
		switch {
		case err != nil:
			t.Fatal(err)
		case r.Event == nil:
		case r.Event.Operation == logs.OpPower:
			power = strings.Contains(string(r.Event.Body()), `"namespace:pid"`)
			t.Logf("power: %s", r.Event.Body())
		case r.Event.Operation == logs.OpLaunch && r.Event.Container == id:
			launch = true
			if !power {
				t.Error("the launch was logged before the power event")
			}
		}
	}
	if !power || !launch {
		t.Errorf("logged: power %t, launch %t", power, launch)
	}
}
