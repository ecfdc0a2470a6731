package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
)

// A gated container that ran for a moment, or that ended while no daemon ran,
// has an end in the log too.
func TestEveryLaunchHasAnEndInDocker(t *testing.T) {
	f := gateFixture(t)
	over := func(ids ...string) func() bool {
		return func() bool {
			for _, id := range ids {
				if got := f.operations(id); !strings.HasPrefix(got, "launch") || !strings.HasSuffix(got, " exit") {
					return false
				}
			}
			return true
		}
	}
	var ids []string
	for range 10 {
		file := filepath.Join(t.TempDir(), "cid")
		docker(t, "run", "--rm", "--cidfile", file, "--network", "none", testImage, "/cimactl", "--version")
		ids = append(ids, readFile(t, file))
	}
	daemontest.Eventually(t, "all ten are over", over(ids...))
	id := docker(t, "run", "-d", "--network", "none", "-i", testImage, "/cimactl", "evidence", "--nonce", "-")
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
	time.Sleep(2 * endsAfter)
	if over(id)() {
		t.Error("a container that runs is over")
	}
	f.stop()
	docker(t, "rm", "-f", id)
	f.start()
	daemontest.Eventually(t, "the one that ended meanwhile is over", over(id))
	for _, id := range append(ids, id) {
		if got := f.operations(id); strings.Count(got, "exit") != 1 || strings.Count(got, "launch") != 1 {
			t.Errorf("logged: %s", got)
		}
	}
}

// Without the gate a container may be gone before it can be read: then docker's
// report is logged, and that the container may have had any power.
func TestGoneInDocker(t *testing.T) {
	f := dockerFixture(t)
	before := f.evidenceOf()
	policy := f.policyFrom(before)
	ids := make(map[string]bool)
	for range 20 {
		id := filepath.Join(t.TempDir(), "cid")
		docker(t, "run", "--rm", "--cidfile", id, "--network", "none", testImage, "/cimactl", "--version")
		ids[readFile(t, id)] = true
	}
	known := func() map[string]string {
		of := make(map[string]string)
		for _, e := range f.events() {
			if ids[e.Container] && e.Operation == logs.OpLaunch {
				var l launch.Launch
				if err := json.Unmarshal(e.Body(), &l); err != nil {
					t.Fatal(err)
				}
				of[e.Container] = l.Source
			}
		}
		return of
	}
	daemontest.Eventually(t, "each of 20 short runs is in the log", func() bool { return len(known()) == len(ids) })
	gone := 0
	for _, source := range known() {
		if source == logs.SourceNone {
			gone++
		}
	}
	t.Logf("%d of %d were gone before they could be read", gone, len(ids))
	daemontest.Eventually(t, "all are over", func() bool {
		for id := range ids {
			if !strings.HasSuffix(f.operations(id), "exit") {
				return false
			}
		}
		return true
	})
	r := f.appraise(f.evidenceOf(), policy)
	if want := gone > 0; want != strings.Contains(r.Step(verify.StepPower).Detail, power.NoMetadata) {
		t.Errorf("%d were gone, and step power is %q", gone, r.Step(verify.StepPower).Detail)
	}
}

// fakeEngine reports what the test wants, and ends its stream when the test wants.
type fakeEngine struct {
	mu      sync.Mutex
	lines   []string
	asked   []string // since
	current chan string
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.asked = append(e.asked, r.URL.Query().Get("since"))
	lines, current := e.lines, e.current
	e.mu.Unlock()
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
	w.(http.Flusher).Flush()
	for {
		select {
		case l, open := <-current:
			if !open {
				return
			}
			fmt.Fprintln(w, l)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// A container that an engine reports, and that is otherwise unknown, is logged
// once; when the stream ends nothing is lost, and nothing is logged twice.
func TestEnginesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	engine := &fakeEngine{current: make(chan string)}
	l, err := net.Listen("unix", filepath.Join(dir, "e.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: engine}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	if os.Geteuid() != 0 {
		t.Skip("left out: needs a socket of root's")
	}
	var begun time.Time
	at := 0
	line := func(id, action string) string {
		at++
		return fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q,"Attributes":{"x":%q}},"timeNano":%d}`,
			action, id, strings.Repeat("x", 100), begun.Add(time.Duration(at)*time.Millisecond).UnixNano())
	}
	id := func(c string) string { return strings.Repeat(c, 64) }
	f := newFixture(t, func(c *config.Config) { c.Engines.Docker = l.Addr().String() })
	// What is in the log already is not logged again.
	if _, err := f.daemon.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpLaunch, Owner: id("c"), Instance: "1", Measured: launch.Launch{}}); err != nil {
		t.Fatal(err)
	}
	send := func(line string) {
		t.Helper()
		select {
		case engine.current <- line:
		case <-time.After(time.Minute):
			t.Fatal("no follower")
		}
	}
	send("{")
	begun = time.Now()
	for _, text := range []string{line("not an id", "die"), line(id("a"), "start"), line(id("d"), "start"), line(id("c"), "die")} {
		send(text)
	}
	first := line(id("a"), "die")
	send(first)
	daemontest.Eventually(t, "a container that was gone is logged", func() bool { return f.operations(id("a")) == "launch exit" })
	engine.mu.Lock()
	engine.lines = []string{first, line(id("b"), "died")}
	close(engine.current)
	engine.current = make(chan string)
	engine.mu.Unlock()
	daemontest.Eventually(t, "one that ended while the stream did", func() bool { return f.operations(id("b")) == "launch exit" })
	if got := f.operations(id("a")) + "; " + f.operations(id("c")) + "; " + f.operations(id("d")); !strings.HasPrefix(got, "launch exit; launch") || !strings.HasSuffix(got, "; ") {
		t.Errorf("logged: %s", got)
	}
	powers := 0
	for _, e := range f.events() {
		if e.Operation == logs.OpPower && strings.Contains(string(e.Body()), power.NoMetadata) {
			powers++
		}
	}
	engine.mu.Lock()
	defer engine.mu.Unlock()
	if powers != 1 || len(engine.asked) != 2 || engine.asked[0] == engine.asked[1] {
		t.Errorf("%d power events, asked since %v", powers, engine.asked)
	}
}

// endsAfter is longer than a container may be missing before its end is logged.
const endsAfter = 200 * time.Millisecond
