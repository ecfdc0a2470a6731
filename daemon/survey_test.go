package daemon

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
)

// Containers are measured even if none of them calls, and their end is logged.
func TestObserverInDocker(t *testing.T) {
	f := dockerFixture(t)
	id := docker(t, "run", "-d", "--network", "none", "-i", testImage, "/cimactl", "evidence", "--nonce", "-")
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
	daemontest.Eventually(t, "launch and image are logged", func() bool { return f.operations(id) == "launch image" })
	docker(t, "rm", "-f", id)
	daemontest.Eventually(t, "the exit is logged", func() bool { return f.operations(id) == "launch image exit" })
}

// operations are a container's events, in order.
func (f *fixture) operations(id string) string {
	f.t.Helper()
	var all []string
	for _, e := range f.events() {
		if e.Container == id {
			all = append(all, e.Operation)
		}
	}
	return strings.Join(all, " ")
}

// A container that runs already when the daemon starts is measured too, and
// counted in the daemon's seal.
func TestContainersFoundRunning(t *testing.T) {
	f := dockerFixture(t)
	f.stop()
	id := docker(t, "run", "-d", "--network", "none", "-i", testImage, "/cimactl", "evidence", "--nonce", "-")
	t.Cleanup(func() { docker(t, "rm", "-f", id) })
	f.start()
	daemontest.Eventually(t, "launch and image are logged", func() bool { return f.operations(id) == "launch image" })
	var running int
	for _, e := range f.events() {
		if e.Operation == logs.OpSeal {
			running = decode[logs.SealBody](t, e.Body()).Running
		}
	}
	if running < 1 {
		t.Errorf("the seal counts %d running containers", running)
	}
}

// events are all events of the log, as only root can read them.
func (f *fixture) events() []logs.Event {
	f.t.Helper()
	l := f.daemon.ledger
	at, _ := l.Snapshot("") // a log can be read even if it is inconsistent
	view, err := l.View(f.t.Context(), "", at, at.Quoted(), ledger.ShowAll)
	if err != nil {
		f.t.Fatal(err)
	}
	var events []logs.Event
	for _, entry := range view {
		e, err := logs.ParseEvent(entry.Event)
		if err != nil {
			f.t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}
