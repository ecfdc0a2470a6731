package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc"
)

var containers = flag.Int("containers", 100, "`N` containers of TestManyContainers")

// Many containers start and end, ten at a time. The test makes their cgroups,
// bundles and first processes, as an engine would; daemon and kernel are real.
// Each evidence verifies, and the daemon stays small.
func TestManyContainers(t *testing.T) {
	total := *containers
	m := newManager(t)
	e := newFakeEngine(t, m)
	m.start()
	admin, err := rpc.Dialer{Path: filepath.Join(m.dir, "admin.sock"), Wait: true}.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close(); m.daemon.Process.Kill(); m.daemon.Wait() })
	nonce := []byte("of the many")
	var first, last int
	for done := 0; done < total; done += 10 {
		var batch []*fakeContainer
		for range 10 {
			batch = append(batch, e.start())
		}
		for _, c := range batch {
			bundle := m.evidenceOf(admin, c.id, nonce)
			if done == 0 && first == 0 {
				first = len(bundle)
			}
			last = len(bundle)
			r, err := verify.Appraise(t.Context(), bundle, verify.Options{Nonce: nonce, TrustRoots: m.roots})
			if err != nil || r.Verdict != verify.NotTrusted || r.Claims.Container.ID != c.id {
				t.Fatalf("container %d: %v, %+v", done, err, r)
			}
		}
		for _, c := range batch {
			c.stop()
		}
	}
	status, err := admin.GetStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peak := peakMemory(t, m.daemon.Process.Pid)
	// Each event of another container costs 48 bytes in base64, and no more.
	if most := first + (status.Log.Count+100)*64 + 4096; last > most {
		t.Errorf("evidence grew from %d to %d bytes over %d events, more than a digest each", first, last, status.Log.Count)
	}
	t.Logf("%d containers, %d events, evidence from %d to %d bytes, peak memory %d MiB", total, status.Log.Count, first, last, peak>>20)
	if peak > 64<<20 {
		t.Errorf("the daemon took %d MiB, and must take at most 64", peak>>20)
	}
}

// evidenceOf repeats the request until the daemon has seen the container.
func (m *manager) evidenceOf(admin *rpc.Client, id string, nonce []byte) []byte {
	m.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var bundle []byte
		if bundle, err = admin.Container(id).GetEvidence(m.Context(), rpc.EvidenceParams{Nonce: nonce}); err == nil {
			return bundle
		}
	}
	m.Fatalf("evidence of %.12s: %v", id, err)
	return nil
}

func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// fakeEngine makes the files and cgroups that docker and runc make for a
// container.
type fakeEngine struct {
	*testing.T
	root   string   // --exec-root
	mounts []string // of the cgroup hierarchies
	random *rand.Rand
}

type fakeContainer struct {
	e    *fakeEngine
	id   string
	init *exec.Cmd
}

func newFakeEngine(t *testing.T, m *manager) *fakeEngine {
	e := &fakeEngine{T: t, root: filepath.Join(m.dir, "exec"), random: rand.New(rand.NewPCG(1, 2))}
	found, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		e.mounts = append(e.mounts, filepath.Dir(f))
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		e.mounts = []string{"/sys/fs/cgroup"}
	}
	config := filepath.Join(m.dir, "cimad.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, fmt.Sprintf("[engines]\ndocker = \"\"\npodman = \"\"\ndocker_exec_root = %q\n", e.root)...)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, mount := range e.mounts {
			os.Remove(filepath.Join(mount, "cima-many"))
		}
	})
	return e
}

const cgroupParent = "cima-many"

func (e *fakeEngine) start() *fakeContainer {
	e.Helper()
	id := fmt.Sprintf("%016x%016x%016x%016x", e.random.Uint64(), e.random.Uint64(), e.random.Uint64(), e.random.Uint64())
	c := &fakeContainer{e: e, id: id, init: exec.Command("/bin/sleep", "1000")}
	c.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := c.init.Start(); err != nil {
		e.Fatal(err)
	}
	e.Cleanup(c.stop)
	pid := c.init.Process.Pid
	for _, mount := range e.mounts {
		dir := filepath.Join(mount, cgroupParent, id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			e.Fatal(err)
		}
		if strings.HasSuffix(mount, "cpuset") {
			for _, d := range []string{filepath.Dir(dir), dir} {
				for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
					above, _ := os.ReadFile(filepath.Join(filepath.Dir(d), name))
					os.WriteFile(filepath.Join(d, name), above, 0o644)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, pid), 0o644); err != nil {
			e.Fatalf("%s: %v", dir, err)
		}
	}
	e.record(id, pid)
	return c
}

// record writes bundle and runtime state, the bundle last but one, as engines
// do.
func (e *fakeEngine) record(id string, pid int) {
	e.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		e.Fatal(err)
	}
	paths := make(map[string]string) // as runc writes them
	for _, mount := range e.mounts {
		switch name := filepath.Base(mount); name {
		case "cgroup":
			paths[""] = mount + "/" + cgroupParent + "/" + id
		case "unified":
		default:
			paths[name] = mount + "/" + cgroupParent + "/" + id
		}
	}
	made, err := json.Marshal(paths)
	if err != nil {
		e.Fatal(err)
	}
	started := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	cgroup := "/" + cgroupParent + "/" + id
	bundle := filepath.Join(e.root, "containerd/daemon/io.containerd.runtime.v2.task/moby", id)
	state := filepath.Join(e.root, "runtime-runc/moby", id)
	for path, text := range map[string]string{
		filepath.Join(bundle, "config.json"): fmt.Sprintf(`{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["/bin/sleep","1000"],`+
			`"env":["HOSTNAME=%.12s"],"cwd":"/","noNewPrivileges":true},"root":{"path":"rootfs"},`+
			`"linux":{"cgroupsPath":%q,"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},"maskedPaths":["/proc/kcore","/proc/keys","/proc/timer_list"],`+
			`"readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"],"resources":{"devices":[{"allow":false,"access":"rwm"}]},`+
			`"namespaces":[{"type":"mount"},{"type":"network"},{"type":"uts"},{"type":"pid"},{"type":"ipc"}]}}`, id, cgroup),
		filepath.Join(state, "state.json"): fmt.Sprintf(`{"id":%q,"init_process_pid":%d,"init_process_start":%s,"cgroup_paths":%s}`,
			id, pid, started, made),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
			e.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			e.Fatal(err)
		}
	}
}

func (c *fakeContainer) stop() {
	if c.init == nil {
		return
	}
	c.init.Process.Kill()
	c.init.Wait()
	c.init = nil
	os.RemoveAll(filepath.Join(c.e.root, "containerd/daemon/io.containerd.runtime.v2.task/moby", c.id))
	os.RemoveAll(filepath.Join(c.e.root, "runtime-runc/moby", c.id))
	for _, mount := range c.e.mounts {
		os.Remove(filepath.Join(mount, cgroupParent, c.id))
	}
}
