package daemon

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// gateFixture is a daemon with a gate. The test is left out where there can be
// none.
func gateFixture(t *testing.T, configure ...func(*Config)) *fixture {
	t.Helper()
	on := func(c *Config) { c.Gate.Mode = gateOn }
	f := dockerFixture(t, append([]func(*Config){on}, configure...)...)
	f.gateStands()
	return f
}

func (f *fixture) gateStands() {
	f.t.Helper()
	eventually(f.t, "the gate stands, or can't", func() bool { return strings.Contains(f.log.String(), "msg=ready") })
	if log := f.log.String(); strings.Contains(log, "error=\"fanotify_init: operation not permitted\"") {
		f.t.Skip("left out: no gate without CAP_SYS_ADMIN")
	} else if !strings.Contains(log, "the gate stands") {
		f.t.Fatalf("no gate: %s", log)
	}
}

// A container finds itself gated with its first call.
func TestGated(t *testing.T) {
	f := gateFixture(t)
	out, err := f.inContainer(nil, "whoami", "--json")
	if err != nil {
		t.Fatal(err)
	}
	who := decode[rpc.Identity](t, out)
	if who.Container == nil || who.Container.Assurance.Start != startGated {
		t.Fatalf("the daemon sees %s", out)
	}
	bundle := f.evidenceOf()
	f.wantAuthentic(bundle)
	if c := claimsOf(t, bundle).Container; c.Assurance.Start != startGated {
		t.Errorf("claims %+v", c)
	}
	if n := countEvents(t, bundle, logs.OpLaunch); n != 1 {
		t.Errorf("one start, %d launches", n)
	}
}

func TestGatedExecs(t *testing.T) {
	f := gateFixture(t, func(c *Config) { c.Exec.Mode = execMeasure })
	out, err := exec.Command("docker", "run", "--rm", "--network", "none", "bb:1", "/bin/busybox", "sh", "-c",
		"/bin/busybox cp /bin/busybox /x; echo >>/x; /x true; /bin/sleep 0").CombinedOutput()
	t.Logf("%s %v", out, err)
	for _, e := range f.events() {
		t.Logf("%s %.12s %s", e.Operation, e.Container, e.Body())
	}
	f.wantAuthentic(f.evidenceOf())
}
