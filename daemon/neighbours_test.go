package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/packaging/test/engine"
	hostiles "github.com/cima-project/cima/packaging/test/hostile/attack"
)

// attacker builds the program of the attacks once.
var attacker = sync.OnceValues(hostiles.Build)

// hostileImage makes an image of the attacker.
func hostileImage(t *testing.T, name string, image func(attacker []byte) (*engine.Image, error)) {
	t.Helper()
	text, err := attacker()
	if err != nil {
		t.Fatal(err)
	}
	i, err := image(text)
	if err != nil {
		t.Skip("left out:", err)
	}
	own, err := engine.Docker()
	if err != nil {
		t.Skip("left out:", err)
	}
	if err := own.Import(t.Context(), name, i); err != nil {
		t.Fatal(err)
	}
}

const (
	attackImage  = "cima-attack-test:1"
	runtimeImage = "cima-attack-runtime-test:1"
)

func (f *fixture) attacks(command ...string) *hostile {
	f.t.Helper()
	image := attackImage
	if command[0] == "/run-me" {
		image = runtimeImage
	}
	id := docker(f.t, append([]string{"run", "-d", "--network", "none", image}, command...)...)
	f.t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
	return &hostile{f.t, id}
}

// hostile is a container that attacks others.
type hostile struct {
	t  *testing.T
	id string
}

// count returns how many programs it executed, and how many it could not.
func (h *hostile) count() (done, refused int) {
	h.t.Helper()
	out, err := exec.Command("docker", "logs", "--tail", "1", h.id).CombinedOutput()
	if err != nil {
		h.t.Fatal(err)
	}
	fmt.Sscanf(string(out), "done %d refused %d", &done, &refused)
	return done, refused
}

// reaches waits until it has executed so many.
func (h *hostile) reaches(n int) {
	h.t.Helper()
	daemontest.Eventually(h.t, fmt.Sprintf("the attacker executes %d programs", n), func() bool {
		done, refused := h.count()
		return done+refused >= n
	})
}

// wantGated starts others, and checks that each is gated.
func (f *fixture) wantGated(n int) {
	f.t.Helper()
	for range n {
		out, err := f.inContainer(nil, "whoami", "--json")
		if err != nil || !strings.Contains(string(out), `"gated"`) {
			f.t.Errorf("another's start: %v: %s", err, out)
		}
	}
}

// N1: a container that holds a descriptor of the host's runtime executes it 200 times at
// once. It takes no place of the gate, is no missed start, costs the journal nothing, and
// others' starts stay gated.
func TestContainerExecutesRuntime(t *testing.T) {
	f := gateFixture(t)
	runtime, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("left out: no runc")
	}
	hostileImage(t, runtimeImage, func(attacker []byte) (*engine.Image, error) { return hostiles.RuntimeImage(attacker, runtime) })
	for _, user := range []string{"0", "1000"} {
		h := f.attacks("/run-me", "runtime", "200", "0")
		if user != "0" {
			h = &hostile{t, docker(t, "run", "-d", "--network", "none", "-u", user, runtimeImage, "/run-me", "runtime", "200", "0")}
			t.Cleanup(func() { exec.Command("docker", "rm", "-f", h.id).Run() })
		}
		h.reaches(size(200, 1000))
		held, _, _ := f.daemon.containers.Counts.Held.Read()
		lines := strings.Count(f.log.String(), "\n")
		before, _ := h.count()
		h.reaches(before + size(600, 2000))
		if now, _, _ := f.daemon.containers.Counts.Held.Read(); now != held {
			t.Errorf("as uid %s: %d of the executions were decided", user, now-held)
		}
		if now := strings.Count(f.log.String(), "\n"); now > lines+10 {
			t.Errorf("as uid %s: the executions made %d lines of the journal", user, now-lines)
		}
		f.wantGated(size(2, 10))
		if _, refused := h.count(); refused != 0 {
			t.Errorf("as uid %s: %d were refused", user, refused)
		}
		after, _ := h.count()
		h.reaches(after + 200) // it went on all the while
		docker(t, "rm", "-f", h.id)
	}
	f.wantQuiet()
}

// N2: a container executes a file of its own on which it has a write lease. That one exec
// is refused, and nobody waits.
func TestContainerLeasesItsProgram(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode = config.ExecMeasure })
	hostileImage(t, attackImage, func(attacker []byte) (*engine.Image, error) { return hostiles.Image(attacker), nil })
	id := f.shell()
	h := f.attacks("/attacker", "lease", "0")
	h.reaches(20)
	for range 10 {
		if out, err := inside(id, "/bin/busybox true"); err != nil {
			t.Fatalf("another's exec: %v: %s", err, out)
		}
	}
	f.wantGated(3)
	before, refused := h.count()
	h.reaches(before + refused + 20)
	if done, refused := h.count(); done != 0 || refused == 0 {
		t.Errorf("of the attacker's own %d were let go, %d refused: whoever opens them has waited", done, refused)
	}
	f.wantAuthentic(evidenceFrom(t, id))
	f.wantQuiet()
}

// N4: a container executes again and again what can't be measured. Another container's
// evidence is never refused for that, and nothing of it is in another's log.
func TestContainerExecutesUnmeasured(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode, c.Exec.MaxSize = config.ExecMeasure, 32<<20 })
	hostileImage(t, attackImage, func(attacker []byte) (*engine.Image, error) { return hostiles.Image(attacker), nil })
	id := f.shell()
	daemontest.Eventually(t, "what ran so far is logged", func() bool { return f.daemon.execs.Flush(t.Context(), id) == nil })
	h := f.attacks("/attacker", "execs", "60", "8", "0")
	h.reaches(100)
	before := f.daemon.execs.Counts.Missed.Load()
	refused, pending := 0, 0
	for range 500 {
		if f.daemon.execs.Pending(id) {
			pending++
		}
		if err := f.daemon.execs.Flush(t.Context(), id); err != nil {
			refused++
		}
		time.Sleep(time.Millisecond)
	}
	if refused+pending != 0 {
		t.Errorf("of 500 calls of another %d were refused, and %d could not be answered at once", refused, pending)
	}
	if out, err := inside(id, "/bin/busybox true"); err != nil {
		t.Errorf("another's exec: %v: %s", err, out)
	}
	f.wantAuthentic(evidenceFrom(t, id))
	if now := f.daemon.execs.Counts.Missed.Load(); now < before+50 {
		t.Errorf("%d executions were missed meanwhile: it was no storm", now-before)
	}
	for _, e := range f.execsOf(id) {
		if e.Missed != "" {
			t.Errorf("in another's log: %+v", e)
		}
	}
	f.wantGated(3)
}

// N4: a container executes a large program whose times change, so that its digest is never
// known. Another's executions are measured, and its evidence isn't refused.
func TestContainerExecutesLarge(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode = config.ExecMeasure })
	hostileImage(t, attackImage, func(attacker []byte) (*engine.Image, error) { return hostiles.Image(attacker), nil })
	id := f.shell()
	h := f.attacks("/attacker", "execs", "60", "40", "0")
	h.reaches(1)
	for i := range 5 {
		if out, err := inside(id, fmt.Sprintf("/bin/busybox cp /bin/busybox /busybox-%d; echo >>/busybox-%d; /busybox-%d true", i, i, i)); err != nil {
			t.Fatalf("another's exec: %v: %s", err, out)
		}
		if err := f.daemon.execs.Flush(t.Context(), id); err != nil {
			t.Errorf("another's evidence: %v", err)
		}
	}
	f.wantGated(3)
	for _, e := range f.execsOf(id) {
		if e.Missed != "" || e.SHA384 == nil {
			t.Errorf("of another: %+v", e)
		}
	}
	f.wantAuthentic(evidenceFrom(t, id))
}

// N5: many containers with an entrypoint of 255 MiB start at once. Another's start isn't
// queued behind them, and theirs are gated too.
func TestLargeEntrypoints(t *testing.T) {
	f := gateFixture(t)
	hostileImage(t, attackImage, func(attacker []byte) (*engine.Image, error) { return hostiles.Image(attacker), nil })
	large := filepath.Join(t.TempDir(), "large")
	text, err := attacker()
	if err == nil {
		err = os.WriteFile(large, text, 0o755)
	}
	if err == nil {
		err = os.Truncate(large, 255<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	base := docker(t, "create", attackImage, "/attacker", "nothing")
	docker(t, "cp", large, base+":/large")
	docker(t, "commit", base, "cima-large-test:1")
	docker(t, "rm", base)
	const many = 8 // twice as many as one user had workers
	var ids []string
	for range many {
		ids = append(ids, docker(t, "create", "--network", "none", "cima-large-test:1", "/large", "nothing"))
	}
	other := docker(t, "create", "--network", "none", testImage, "/cimactl", "--version")
	all := append(ids, other)
	defer func() { exec.Command("docker", append([]string{"rm", "-f"}, all...)...).Run() }()
	var starting sync.WaitGroup
	for _, id := range ids {
		starting.Go(func() { docker(t, "start", id) })
	}
	daemontest.Eventually(t, "they are at the gate", func() bool {
		list, err := f.daemon.store().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := f.launched(ids)
		for _, rec := range list {
			if slices.Contains(ids, rec.ID) {
				n++
			}
		}
		return n >= many
	})
	docker(t, "start", "-a", other)
	starting.Wait()
	daemontest.Eventually(t, "all are logged", func() bool { return f.launched(all) == many+1 })
	before := 0
	for _, e := range f.events() {
		if e.Container == other {
			break
		}
		if e.Operation == logs.OpLaunch && slices.Contains(ids, e.Container) {
			before++
		}
	}
	t.Logf("%d of %d were measured before another that started after them", before, many)
	if before >= many/2 {
		t.Errorf("%d of %d were measured before another that started after them", before, many)
	}
	for _, id := range all {
		if start := f.startOfContainer(id); start != logs.StartGated {
			t.Errorf("%.12s, large %t: start %q", id, id != other, start)
		}
	}
	f.wantQuiet()
}

// launched counts the containers whose launch is logged.
func (f *fixture) launched(ids []string) (n int) {
	for _, id := range ids {
		if strings.Contains(f.operations(id), logs.OpLaunch) {
			n++
		}
	}
	return n
}

// N6: the first process of a container hangs before its exec FIFO, in a file system that
// hangs: its program is looked for there. Its start waits, and nobody else's does.
func TestContainerHangs(t *testing.T) {
	f := gateFixture(t)
	dir := t.TempDir()
	hung := filepath.Join(dir, "hung")
	if err := os.Mkdir(hung, 0o755); err != nil {
		t.Fatal(err)
	}
	end := daemontest.Hang(t, hung)
	id := docker(t, "create", "--network", "none", "-v", dir+":/data:ro", testImage, "/data/hung/program")
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
	ended := make(chan error, 1)
	go func() { ended <- exec.Command("docker", "start", id).Run() }()
	t.Cleanup(func() {
		end()
		if err := <-ended; err == nil {
			t.Error("a program was executed that nobody serves")
		}
	})
	daemontest.Eventually(t, "it is made", func() bool { return strings.Contains(f.operations(id), logs.OpLaunch) })
	daemontest.Eventually(t, "its first process hangs", func() bool {
		list, err := f.daemon.store().List(t.Context())
		at := slices.IndexFunc(list, func(rec records.Record) bool { return rec.ID == id })
		return err == nil && at >= 0 && list[at].InitPID != 0
	})
	f.wantGated(size(4, 20))
	if n := len(ended); n != 0 {
		t.Error("its start did not wait")
	}
	f.wantQuiet()
}

// A container has a file system that hangs: it is told from others by its type, and nobody
// looks at it.
func TestContainerHasHungMount(t *testing.T) {
	f := gateFixture(t)
	dir := t.TempDir()
	hung := filepath.Join(dir, "hung")
	if err := os.Mkdir(hung, 0o755); err != nil {
		t.Fatal(err)
	}
	daemontest.Hang(t, hung)
	id := f.hold("-v", dir+":/data:ro")
	if start := f.startOfContainer(id); start != logs.StartGated {
		t.Errorf("start %q", start)
	}
	f.wantGated(2)
	if all := strings.Join(f.announced(), " "); !strings.Contains(all, "mount:fuse") {
		t.Errorf("announced: %s", all)
	}
	docker(t, "exec", id, "/cimactl", "whoami")
}
