package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/fifo"
	"github.com/cima-project/cima/daemon/launch/launchtest"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/packaging/test/engine"
)

// wantQuiet checks that nothing was missed, and that no power was announced.
func (f *fixture) wantQuiet() {
	f.t.Helper()
	if n := f.daemon.containers.Counts.Missed.Load(); n != 0 {
		f.t.Errorf("%d runtimes were missed", n)
	}
	if all := f.announced(); len(all) != 0 {
		f.t.Errorf("announced: %q", all)
	}
}

// A usual container is judged at START, by docker as by podman, and has no power.
func TestJudgedAtStart(t *testing.T) {
	f := gateFixture(t)
	podman := podmanCimactl(t)
	id, err := podman("run", "-d", "-i", "--network", "none", podmanImage, "/cimactl", "evidence", "--nonce", "-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { podman("rm", "-f", "-t", "0", id) })
	for _, id := range []string{f.hold(), f.hold("--read-only", "-u", "1000", "--security-opt", "no-new-privileges"), f.hold("-t"), id} {
		if start := f.startOfContainer(id); start != logs.StartGated {
			t.Errorf("%.12s: start %q", id, start)
		}
	}
	f.wantQuiet()
}

// The daemon is restarted after a container is made, and before it is started: nothing
// of it has run yet, so its start counts as gated.
func TestRestartBeforeStart(t *testing.T) {
	f := gateFixture(t)
	podman := podmanCimactl(t)
	begin := func() string {
		t.Helper()
		id, err := podman("create", "-i", "--network", "none", podmanImage, "/cimactl", "evidence", "--nonce", "-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { podman("rm", "-f", "-t", "0", id) })
		if _, err := podman("init", id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	measured := begin()
	f.regate(func(c *config.Config) { c.Gate.Mode = config.GateOff })
	unmeasured := begin()
	f.regate(func(c *config.Config) { c.Gate.Mode = config.GateOn })
	for _, id := range []string{measured, unmeasured} {
		if _, err := podman("start", id); err != nil {
			t.Fatal(err)
		}
		if start, all := f.startOfContainer(id), f.operations(id); start != logs.StartGated || strings.Count(all, "launch") != 1 {
			t.Errorf("start %q, logged: %s", start, all)
		}
	}
	f.wantQuiet()
}

// What ran before the daemon, and what started unseen, is announced once for all.
func TestUnseenStartIsAnnounced(t *testing.T) {
	f := dockerFixture(t)
	for range 2 {
		id := f.hold()
		daemontest.Eventually(t, "it is observed", func() bool { return f.operations(id) != "" })
	}
	f.restart()
	if all := f.announced(); !slices.Equal(all, []string{"unseen-start"}) {
		t.Errorf("announced: %q", all)
	}
}

// hangingInit makes what containerd and runc leave of a container whose first process
// hangs before it waits in the exec FIFO, and returns the process.
func hangingInit(t *testing.T, id string) (root string, init *os.Process) {
	t.Helper()
	bundle := "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/" + id
	root = "/run/docker/runtime-runc/moby"
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		os.RemoveAll(bundle)
		os.RemoveAll(filepath.Join(root, id))
	})
	started, err := procfs.Started(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	spec := launchtest.Config(t, "docker")
	launchtest.Set("linux.cgroupsPath", "/docker/"+id)(spec)
	state := fmt.Sprintf(`{"id":%q,"init_process_pid":%d,"init_process_start":%d}`, id, c.Process.Pid, started)
	err = errors.Join(
		os.MkdirAll(bundle, 0o700), os.MkdirAll(filepath.Join(root, id), 0o700),
		os.WriteFile(filepath.Join(bundle, "config.json"), launchtest.Encode(t, spec), 0o600),
		os.WriteFile(filepath.Join(root, id, "state.json"), []byte(state), 0o600),
		unix.Mkfifo(filepath.Join(root, id, fifo.Name), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return root, c.Process
}

// N6 of the attacks: the start of a container whose first process never gets to its
// exec FIFO waits, and delays no other start; neither does a working directory that is
// none.
func TestHangingStartDelaysNobody(t *testing.T) {
	f := gateFixture(t)
	usual := f.hold()
	const hanging = 8 // more than one user has workers of the gate
	var all sync.WaitGroup
	ended := make(chan string, hanging)
	var inits []*os.Process
	for i := range hanging {
		id := launchtest.ID(i)
		root, init := hangingInit(t, id)
		inits = append(inits, init)
		all.Go(func() {
			// By a shell: this program, which is the daemon, can't hold itself.
			exec.Command("sh", "-c", `runc --root "$0" start "$1"; true`, root, id).Run()
			ended <- id
		})
	}
	var others sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i := range size(20, 60) {
		others.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if i%10 == 5 {
				if out, err := f.inContainer([]string{"-w", "/cimactl"}, "--version"); err == nil {
					t.Errorf("in a working directory that is none: %s", out)
				}
				return
			}
			out, err := f.inContainer(nil, "whoami", "--json")
			if err != nil || !strings.Contains(string(out), `"gated"`) {
				t.Errorf("another start: %v: %s", err, out)
			}
		})
	}
	others.Wait()
	docker(t, "exec", usual, "/cimactl", "--version")
	if n := len(ended); n != 0 {
		t.Errorf("%d starts did not wait", n)
	}
	for _, init := range inits {
		init.Kill() // then there is nothing to wait for
	}
	all.Wait()
	if n := f.daemon.containers.Counts.Missed.Load(); n != 0 {
		t.Errorf("%d runtimes were missed", n)
	}
}

// alone is a gate beside runtimes that no engine here runs as the test needs it, and
// the bundle of one container.
type alone struct {
	*fixture
	dir, id, bundle string
}

func newAlone(t *testing.T, configure ...func(*config.Config)) *alone {
	t.Helper()
	if _, err := engine.Docker(); err != nil { // for the namespaces of this test's own
		t.Skip("left out:", err)
	}
	dir, err := os.MkdirTemp("/srv", "cima-alone-") // records count where nobody else can write above them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	store := records.New(records.Options{Places: []records.Place{{
		Runtime: "podman", Config: dir + "/bundles/{id}/config.json", States: []string{dir + "/crun/{id}/status", dir + "/runc/{id}/state.json"},
	}}})
	f := startFixture(t, store, append([]func(*config.Config){func(c *config.Config) {
		c.Gate.Mode, c.Gate.Deadline = config.GateOn, config.Duration(time.Minute)
	}}, configure...)...)
	f.gateStands()
	a := &alone{f, dir, launchtest.ID(7), filepath.Join(dir, "bundles", launchtest.ID(7))}
	program, err := cimactl()
	if err != nil {
		t.Fatal(err)
	}
	lower, rootfs := filepath.Join(dir, "lower"), filepath.Join(a.bundle, "rootfs")
	for _, name := range []string{rootfs, lower + "/dev", lower + "/proc", dir + "/upper", dir + "/work"} {
		err = errors.Join(err, os.MkdirAll(name, 0o755))
	}
	err = errors.Join(err, os.WriteFile(lower+"/cimactl", program, 0o755),
		os.WriteFile(a.bundle+"/config.json", fmt.Appendf(nil, `{"ociVersion":"1.0.0","process":{"args":["/cimactl","--version"],"cwd":"/"},"root":{"path":"rootfs"},
			"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
			"linux":{"cgroupsPath":"/%s","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"}]}}`, a.id), 0o644),
		unix.Mount("overlay", rootfs, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, dir, dir)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(rootfs, unix.MNT_DETACH) })
	return a
}

// run runs a runtime, by a shell: this program, which is the daemon, can't hold itself.
func (a *alone) run(script string, args ...string) {
	a.t.Helper()
	text, err := os.Create(filepath.Join(a.dir, "out")) // no pipe: the container has it too
	if err != nil {
		a.t.Fatal(err)
	}
	defer text.Close()
	c := exec.Command("unshare", append([]string{"-m", "--propagation", "slave", "sh", "-c", script + "; exit $?", a.dir}, args...)...)
	c.Stdout, c.Stderr = text, text
	if err := c.Run(); err != nil {
		a.t.Fatalf("%s %s: %v: %s", script, args, err, readFile(a.t, text.Name()))
	}
}

func (a *alone) wantStart(when, want string) {
	a.t.Helper()
	if start := a.startOfContainer(a.id); start != want {
		a.t.Errorf("%s: start %q, want %q", when, start, want)
	}
	if n := a.daemon.containers.Counts.Missed.Load(); n != 0 {
		a.t.Errorf("%d runtimes were missed", n)
	}
}

// crun waits in another call than runc. It refuses the hybrid cgroups of this machine.
const (
	runCrun = `mount -t cgroup2 none /sys/fs/cgroup && crun --root "$0/crun" --cgroup-manager disabled "$@"`
	runRunc = `runc --root "$0/runc" "$@"`
)

func TestJudgedAtStartByCrun(t *testing.T) {
	if _, err := exec.LookPath("crun"); err != nil {
		t.Skip("left out:", err)
	}
	a := newAlone(t)
	a.run(runCrun, "create", "--bundle", a.bundle, a.id)
	a.wantStart("made", logs.StartObserved)
	a.run(runCrun, "start", a.id)
	a.wantStart("started", logs.StartGated)
}

// A runtime that makes and starts a container with one command has no START. The first
// exec of its first process stands for it, and the mark is gone then.
func TestJudgedAtFirstExec(t *testing.T) {
	for name, script := range map[string]string{"runc": runRunc, "crun": runCrun} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Skip("left out:", err)
			}
			a := newAlone(t)
			a.run(script, "run", "--bundle", a.bundle, a.id)
			a.wantStart("run", logs.StartGated)
			held, _, _ := a.daemon.containers.Counts.Held.Read()
			if out, err := exec.Command(filepath.Join(a.bundle, "rootfs/cimactl"), "--version").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if n, _, _ := a.daemon.containers.Counts.Held.Read(); n != held {
				t.Error("an exec after the first is held")
			}
		})
	}
}

// A descriptor of the host's that a container inherits shows in no bundle. START sees it.
func TestInheritedDescriptor(t *testing.T) {
	f := gateFixture(t)
	podmanCimactl(t) // its image
	own, err := engine.Podman()
	if err != nil {
		t.Fatal(err)
	}
	run := func(flags ...string) {
		t.Helper()
		args := append([]string{"--runtime", "runc", "run", "--rm", "--network", "none"}, flags...)
		c := own.Command(t.Context(), append(args, podmanImage, "/cimactl", "--version")...)
		top, err := os.Open("/")
		if err != nil {
			t.Fatal(err)
		}
		defer top.Close()
		c.ExtraFiles = []*os.File{top}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run()
	f.wantQuiet()
	run("--preserve-fds", "1")
	if all := f.announced(); !slices.Equal(all, []string{"descriptor"}) {
		t.Errorf("announced: %q", all)
	}
}

// Somebody swaps what a container mounts, again and again: START says what the container
// sees, whatever lay there before.
func TestSwappedMounts(t *testing.T) {
	f := gateFixture(t)
	needShell(t)
	dir := t.TempDir()
	mounted, other := filepath.Join(dir, "mounted"), filepath.Join(dir, "other")
	err := errors.Join(os.Mkdir(mounted, 0o755), os.WriteFile(filepath.Join(mounted, "harmless"), nil, 0o644), os.Symlink("/etc", other))
	if err != nil {
		t.Fatal(err)
	}
	swapping := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-swapping:
				return
			case <-time.After(time.Millisecond):
				unix.Renameat2(unix.AT_FDCWD, mounted, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
			}
		}
	})
	defer swapper.Wait()
	defer close(swapping)
	saw := make(map[string]int)
	for tries, want := 0, size(10, 200); saw["/etc"]+saw["/tmp"] < want && tries < 4*want; tries++ {
		id := docker(t, "create", "--network", "none", "-v", mounted+":/m:ro", shellImage, "/bin/busybox", "ls", "/m")
		out, err := exec.Command("docker", "start", "-a", id).Output()
		start := ""
		if err == nil {
			start = f.startOfContainer(id)
		}
		exec.Command("docker", "rm", "-f", id).Run()
		if err != nil {
			continue // there was nothing to mount at that moment
		}
		sees := "/tmp"
		if strings.Contains(string(out), "passwd") {
			sees = "/etc"
		}
		saw[sees]++
		if got, want := fmt.Sprint(f.powers(id)), "[[host-read:"+sees+"]]"; got != want || start != logs.StartGated {
			t.Errorf("it sees %s, announced: %s, start %q", sees, got, start)
		}
	}
	t.Logf("mounted: %v", saw)
	if saw["/tmp"]+saw["/etc"] < size(10, 200) || *whole && (saw["/tmp"] == 0 || saw["/etc"] == 0) {
		t.Errorf("not enough ran: %v", saw)
	}
}
