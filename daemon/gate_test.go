package daemon

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/rpc"
)

// TestMain lets this program also be the gate's guard, as the daemon's program
// is, a daemon that is stopped and killed, and a runtime.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case gate.GuardCommand:
			os.Exit(gate.Guard(os.Args[2:]))
		case stormedCommand:
			os.Exit(stormed(os.Args[2], os.Args[3]))
		case changeCommand:
			fmt.Fprintln(os.Stderr, change(os.Args[2:]))
			os.Exit(1)
		}
	}
	if err := engine.Alone(); err != nil {
		fmt.Fprintln(os.Stderr, "tests of containers are left out:", err)
	}
	goleak.VerifyTestMain(m)
}

// whole selects the full sizes. Only then costs are compared, on a machine that
// does nothing else.
var whole = flag.Bool("whole", false, "test in the sizes that figures are taken at, and compare costs")

func size(short, long int) int {
	if *whole {
		return long
	}
	return short
}

// gateFixture is a daemon with a gate. It skips the test if there can be none.
func gateFixture(t *testing.T, configure ...func(*config.Config)) *fixture {
	t.Helper()
	on := func(c *config.Config) { // long enough for a busy machine
		c.Gate.Mode, c.Gate.Deadline, c.Exec.Deadline = config.GateOn, config.Duration(time.Minute), config.Duration(time.Minute)
	}
	f := dockerFixture(t, append([]func(*config.Config){on}, configure...)...)
	f.gateStands()
	return f
}

func (f *fixture) gateStands() {
	f.t.Helper()
	daemontest.Eventually(f.t, "the gate stands, or can't", func() bool { return strings.Contains(f.log.String(), "msg=ready") })
	if log := f.log.String(); strings.Contains(log, "fanotify_init: operation not permitted") {
		f.t.Skip("left out: no gate without CAP_SYS_ADMIN")
	} else if !strings.Contains(log, "the gate stands") {
		f.t.Fatalf("no gate: %s", log)
	}
}

// shellImage has a shell and cimactl; it skips the test if no shell without
// libraries is found.
const shellImage = "cima-gate-test:1"

func needShell(t *testing.T) {
	t.Helper()
	if err := makeShell(); err != nil {
		t.Skip("left out: no image with a static busybox:", err)
	}
}

// makeShell makes the image once: a second image would have another digest.
var makeShell = sync.OnceValue(func() error {
	docker, err := engine.Docker()
	if err != nil {
		return err
	}
	image, err := shell()
	if err != nil {
		return err
	}
	return docker.Import(context.Background(), shellImage, image)
})

// shell is a root file system of busybox and cimactl.
func shell() (*engine.Image, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	if exec.Command("ldd", busybox).Run() == nil {
		return nil, errors.New("busybox needs libraries")
	}
	program, err := cimactl()
	if err != nil {
		return nil, err
	}
	image := engine.NewImage().File("/bin/busybox", busybox).Text("/bin/cimactl", program)
	for _, name := range []string{"sh", "true", "sleep"} {
		image.Link("/bin/"+name, "busybox")
	}
	return image, nil
}

// regate restarts the daemon and waits for its gate.
func (f *fixture) regate(configure func(*config.Config)) {
	f.t.Helper()
	f.stop()
	configure(&f.config)
	stands := strings.Count(f.log.String(), "msg=ready")
	f.start()
	daemontest.Eventually(f.t, "the daemon is ready again", func() bool { return strings.Count(f.log.String(), "msg=ready") > stands })
}

// startOfContainer is the start in the container's logged launch.
func (f *fixture) startOfContainer(id string) string {
	f.t.Helper()
	s, err := f.daemon.ledger.Snapshot(id)
	if err != nil || s.Owner.Instance == "" {
		f.t.Fatalf("no launch of %.12s is logged: %v", id, err)
	}
	// The file next to the log says which launches were judged at START.
	text, err := os.ReadFile(filepath.Join(dirsUnder(f.dir).log, "gated"))
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, id+" "+s.Owner.Instance+" ") && strings.HasSuffix(line, " judged .\n") {
			return logs.StartGated
		}
	}
	return logs.StartObserved
}

// Started many at a time, each container is gated when it makes its first call.
func TestGatedStorm(t *testing.T) {
	f := gateFixture(t)
	var all sync.WaitGroup
	slots := make(chan struct{}, 10)
	for range size(20, 200) {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out, err := f.inContainer(nil, "whoami", "--json")
			if err != nil {
				t.Error(err)
				return
			}
			who := decode[rpc.Identity](t, out)
			if who.Container == nil || who.Container.Assurance.Start != logs.StartGated {
				t.Errorf("the daemon sees %s", out)
			}
		})
	}
	all.Wait()
	f.wantAuthentic(f.evidenceOf())
}

// A gated container stays gated over a restart of the daemon, and a new start
// is a new launch, gated again.
func TestGatedOverRestarts(t *testing.T) {
	f := gateFixture(t)
	hold := f.hold()
	evidence := func() []byte {
		return []byte(docker(t, "exec", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
	}
	before := evidence()
	f.regate(func(*config.Config) {})
	after := evidence()
	docker(t, "restart", "-t", "0", hold)
	relaunched := evidence()
	for i, bundle := range [][]byte{before, after, relaunched} {
		f.wantAuthentic(bundle)
		if start := claimsOf(t, bundle).Container.Assurance.Start; start != logs.StartGated {
			t.Errorf("evidence %d: start %q", i, start)
		}
	}
	if a, b := claimsOf(t, before).Container, claimsOf(t, after).Container; a.Register != b.Register {
		t.Error("the register changed over a restart of the daemon")
	}
	if n := countEvents(t, relaunched, logs.OpLaunch); n != 2 {
		t.Errorf("two starts, %d launches", n)
	}
}

// A container that could act as the guest's root is logged as such before it
// can act.
func TestGatedPower(t *testing.T) {
	f := gateFixture(t)
	id := f.hold("--cap-add", "SYS_ADMIN")
	if start := f.startOfContainer(id); start != logs.StartGated {
		t.Errorf("start %q", start)
	}
	events := f.events()
	at := slices.IndexFunc(events, func(e logs.Event) bool { return e.Container == id })
	if at < 1 || events[at].Operation != logs.OpLaunch || !slices.ContainsFunc(events[:at], func(e logs.Event) bool { return e.Operation == logs.OpPower }) {
		t.Errorf("no power before its launch, event %d", at)
	}
}

// A runtime that can't be measured in time goes on, and is logged as missed,
// its container as observed; or it is refused.
func TestGateMisses(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Gate.Deadline = 1 })
	out, err := f.inContainer(nil, "whoami", "--json")
	if err != nil {
		t.Fatal(err)
	}
	if who := decode[rpc.Identity](t, out); who.Container.Assurance.Start != logs.StartObserved {
		t.Errorf("the daemon sees %s", out)
	}
	bundle := f.evidenceOf()
	f.wantAuthentic(bundle)
	if countEvents(t, bundle, logs.OpMissed) == 0 {
		t.Error("nothing is logged as missed")
	}
	f.regate(func(c *config.Config) { c.Gate.Mode = config.GateEnforce })
	if out, err := f.inContainer(nil, "whoami"); err == nil {
		t.Errorf("a runtime that was not measured was let go: %s", out)
	}
	f.regate(func(c *config.Config) { c.Gate.Deadline = config.Duration(time.Minute) })
	if _, err := f.inContainer(nil, "whoami"); err != nil {
		t.Error("a runtime that was measured was refused:", err)
	}
}

// podmanWith is podman with a runtime and an image.
func podmanWith(t *testing.T, runtime string, image *engine.Image) func(args ...string) (string, error) {
	t.Helper()
	own, err := engine.Podman()
	if err != nil {
		t.Skip("left out:", err)
	}
	e := &engine.Engine{Name: own.Name, Client: append(own.Client[:len(own.Client):len(own.Client)], "--runtime", runtime)}
	if err := e.Import(t.Context(), podmanImage, image); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) (string, error) { return e.Do(context.Background(), "", args...) }
}

// podmanCimactl is podman with runc and an image of cimactl alone.
func podmanCimactl(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	program, err := cimactl()
	if err != nil {
		t.Fatal(err)
	}
	return podmanWith(t, "runc", engine.NewImage().Text("/cimactl", program))
}

const podmanImage = "localhost/cima-test:1"

func TestGatedPodman(t *testing.T) {
	f := gateFixture(t)
	podman := podmanCimactl(t)
	id, err := podman("run", "-d", "-i", "--network", "none", podmanImage, "/cimactl", "evidence", "--nonce", "-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { podman("rm", "-f", "-t", "0", id) })
	if start := f.startOfContainer(id); start != logs.StartGated {
		t.Errorf("start %q", start)
	}
	daemontest.Eventually(t, "the image follows, and there is one launch", func() bool { return f.operations(id) == "launch image" })
	if _, err := podman("restart", "-t", "0", id); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, "the second start is logged", func() bool { return strings.Count(f.operations(id), "launch") == 2 })
	if start := f.startOfContainer(id); start != logs.StartGated {
		t.Errorf("after a restart: start %q", start)
	}
}

// A start may not take much longer with a gate than without one.
func TestGateCost(t *testing.T) {
	f := gateFixture(t)
	var ratios []float64
	for range size(4, 30) {
		var took [2]time.Duration
		for i, mode := range []string{config.GateOff, config.GateOn} {
			f.regate(func(c *config.Config) { c.Gate.Mode = mode })
			begin := time.Now()
			docker(t, "run", "--rm", "--network", "none", testImage, "/cimactl", "--version")
			took[i] = time.Since(begin)
		}
		ratios = append(ratios, float64(took[1])/float64(took[0]))
	}
	slices.Sort(ratios)
	median := ratios[len(ratios)/2]
	t.Logf("gated to ungated, %d pairs: median %.3f, from %.2f to %.2f", len(ratios), median, ratios[0], ratios[len(ratios)-1])
	if limit := 1.2; *whole && median > limit {
		t.Errorf("a gated start takes %.2f times an ungated one, and must take at most %.1f times", median, limit)
	}
}

// Every program of a scripted run is in its container's log, in order and with
// the digest of its bytes, and in no other container's log.
func TestGatedExecs(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode = config.ExecMeasure })
	needShell(t)
	other := f.hold()
	mount := filepath.Dir(f.socket()) + ":/run/cima:ro"
	id := docker(t, "create", "--network", "none", "-v", mount, shellImage, "/bin/busybox", "sh", "-c",
		`b=/bin/busybox; $b cp $b /made; $b dd if=/dev/zero bs=1 count=3 >>/made; /made sh -c true
		$b echo '#!/bin/busybox sh' >/script; $b chmod 755 /script; /script; $b sleep 300`)
	t.Cleanup(func() { docker(t, "rm", "-f", id) })
	docker(t, "start", id)
	exec.Command("docker", "exec", id, "/made", "true").Run()
	digest := func(path string) string {
		local := filepath.Join(t.TempDir(), "file")
		docker(t, "cp", "-L", id+":"+path, local)
		b, err := os.ReadFile(local)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %x", path, sha512.Sum384(b))
	}
	want := []string{digest("/bin/busybox"), digest("/made"), digest("/script")}
	execs := func(id string) (all []string) {
		for _, e := range f.events() {
			if e.Container == id && e.Operation == logs.OpExec {
				x := decode[logs.ExecBody](t, e.Body())
				all = append(all, x.Path+" "+x.Missed)
				if x.SHA384 != nil {
					all[len(all)-1] = x.Path + " " + x.SHA384.String()
				}
			}
		}
		return all
	}
	daemontest.Eventually(t, "three programs are logged", func() bool { return len(execs(id)) >= len(want) })
	if got := execs(id); !slices.Equal(got, want) {
		t.Errorf("logged:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := execs(other); len(got) != 1 || !strings.HasPrefix(got[0], "/cimactl ") {
		t.Errorf("the other container's log: %q", got)
	}
	f.wantAuthentic([]byte(docker(t, "exec", other, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce))))

	// After a restart the gap is logged, and running programs are logged as
	// found late.
	f.regate(func(*config.Config) {})
	daemontest.Eventually(t, "a program that ran before is logged as found late", func() bool {
		text := strings.Join(execs(other), "\n")
		return strings.Contains(text, errRanBefore) && strings.Count(text, "/cimactl ") == 2
	})
	f.wantAuthentic([]byte(docker(t, "exec", other, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce))))
}
