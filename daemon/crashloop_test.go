package daemon

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/logs"
)

// loopStarts is the largest number of starts that is no crash loop yet.
const loopStarts = 5

// A container that docker restarts again and again adds nothing to the log
// after its first starts.
func TestCrashLoopBehindTheGateInDocker(t *testing.T) {
	f := gateFixture(t)
	id := docker(t, "run", "-d", "--restart", "always", "--network", "none", testImage, "/cimactl", "--version")
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
	const restarts = loopStarts + 3 // docker doubles its wait each time
	count := func() int {
		n, err := strconv.Atoi(docker(t, "inspect", "-f", "{{.RestartCount}}", id))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for end := time.Now().Add(2 * time.Minute); count() < restarts; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d restarts in two minutes", count())
		}
	}
	docker(t, "rm", "-f", id)
	daemontest.Eventually(t, "the last launch is over", func() bool { return strings.HasSuffix(f.operations(id), "exit") })
	got := f.operations(id)
	if n := strings.Count(got, "launch"); n != loopStarts {
		t.Errorf("%d starts, %d launches: %s", restarts+1, n, got)
	}
	if n := f.daemon.containers.Counts.Repeated.Load(); n < restarts-loopStarts {
		t.Errorf("%d were measured and not logged", n)
	}
	if n := f.daemon.containers.Counts.Missed.Load(); n != 0 {
		t.Errorf("%d were not measured", n)
	}
	t.Logf("%d starts: %s", restarts+1, got)
}

// A container in a loop that calls has a launch of its own, measured before its
// first instruction; and a start that differs from the earlier ones is logged
// at the gate.
func TestCallInACrashLoopInDocker(t *testing.T) {
	f := gateFixture(t)
	id := f.hold()
	for range loopStarts + 2 {
		docker(t, "restart", "-t", "0", id)
	}
	launches := func() int { return strings.Count(f.operations(id), logs.OpLaunch) }
	if n := launches(); n != loopStarts {
		t.Fatalf("%d starts, %d launches: %s", loopStarts+3, n, f.operations(id))
	}
	evidence := func() []byte {
		return []byte(docker(t, "exec", id, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
	}
	bundle := evidence()
	f.wantAuthentic(bundle)
	again := evidence()
	claims := claimsOf(t, bundle).Container
	if claims.Assurance.Start != logs.StartGated || launches() != loopStarts+1 {
		t.Errorf("start %q, logged: %s", claims.Assurance.Start, f.operations(id))
	}
	if a := claimsOf(t, again).Container; a.Register != claims.Register || a.LaunchDigest != claims.LaunchDigest {
		t.Error("a second call finds another launch")
	}

	// Another program at the same path is another launch, in a loop or not.
	docker(t, "stop", "-t", "0", id)
	other := filepath.Join(t.TempDir(), "cimactl")
	docker(t, "cp", id+":/cimactl", other)
	file, err := os.OpenFile(other, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("other"); err != nil {
		t.Fatal(err)
	}
	file.Close()
	docker(t, "cp", other, id+":/cimactl")
	docker(t, "start", id)
	if n := launches(); n != loopStarts+2 {
		t.Errorf("another program, and the log has: %s", f.operations(id))
	}
	bundle = evidence()
	f.wantAuthentic(bundle)
	if a := claimsOf(t, bundle).Container; a.Register == claims.Register || a.Assurance.Start != logs.StartGated {
		t.Errorf("another program: start %q, register %s as before %s", a.Assurance.Start, a.Register, claims.Register)
	}

	// A restarted daemon didn't see the start of a running container.
	docker(t, "restart", "-t", "0", id)
	f.regate(func(*config.Config) {})
	bundle = evidence()
	f.wantAuthentic(bundle)
	if start := claimsOf(t, bundle).Container.Assurance.Start; start != logs.StartObserved {
		t.Errorf("after a restart of the daemon: start %q", start)
	}
}
