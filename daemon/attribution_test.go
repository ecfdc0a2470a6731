package daemon

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// Real engines put containers into cgroups, and give their records to users, in more
// ways than one. Each container is named, its start is gated, and it has no power.

// ownSocket is containerd's, of this test's docker.
const ownSocket = "/run/docker/containerd/containerd.sock"

// wantNamed checks what a container's whoami printed.
func (f *fixture) wantNamed(out []byte, runtime, id string) {
	f.t.Helper()
	who := decode[rpc.Identity](f.t, out)
	if who.Container == nil || who.Container.Runtime != runtime || who.Container.ID != id {
		f.t.Fatalf("the daemon sees %s, want %s's container %s", out, runtime, id)
	}
	if a := who.Container.Assurance; a.Start != logs.StartGated || a.CgroupOwner != 0 {
		f.t.Errorf("assurance %+v", a)
	}
}

// powers returns what the daemon announced of a container's power, but for that it sees
// the daemon's sockets: these tests have them in /tmp.
func (f *fixture) powers(id string) (found []string) {
	for line := range strings.Lines(f.log.String()) {
		if _, power, ok := strings.Cut(line, "power="); ok && strings.Contains(line, id) {
			found = append(found, strings.TrimSpace(power))
		}
	}
	return found
}

func (f *fixture) socketMount() string { return filepath.Dir(f.socket()) + ":/run/cima:ro" }

// spread moves a process to another cgroup in one hierarchy of v1, until the test
// ends: paths relative to its own then differ from hierarchy to hierarchy.
func spread(t *testing.T, pidFile string) {
	t.Helper()
	const hierarchy = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(hierarchy); err != nil {
		return // v2 has one hierarchy
	}
	pid := readFile(t, pidFile)
	dir := hierarchy + "/elsewhere"
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/cgroup.procs", []byte(pid), 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(hierarchy+"/cgroup.procs", []byte(pid), 0o644); err != nil {
			t.Error(err)
		}
	})
}

func TestRelativeCgroupParent(t *testing.T) {
	f := gateFixture(t)
	spread(t, "/run/docker/containerd/containerd.pid")
	for name, flags := range map[string][]string{
		"relative":               {"--cgroup-parent", "myparent"},
		"relative and deep":      {"--cgroup-parent", "my/parent"},
		"a systemd slice's name": {"--cgroup-parent", "my-parent.slice"},
		"absolute":               {"--cgroup-parent", "/absolute"},
		"host's cgroups in view": {"--cgroup-parent", "myparent", "--cgroupns", "host"},
	} {
		t.Run(name, func(t *testing.T) {
			cid := filepath.Join(t.TempDir(), "cid")
			out, err := f.inContainer(append(flags, "--cidfile", cid), "whoami", "--json")
			if err != nil {
				t.Fatal(err)
			}
			id := readFile(t, cid)
			f.wantNamed(out, "docker", id)
			if p := f.powers(id); p != nil {
				t.Errorf("power %s", p)
			}
		})
	}
}

// A parent that is relative to dockerd's own cgroup may be another container's.
func TestRelativeCgroupParentOfAnother(t *testing.T) {
	f := gateFixture(t)
	victim := f.hold()
	cid := filepath.Join(t.TempDir(), "cid")
	out, err := f.inContainer([]string{"--cgroup-parent", "docker/" + victim, "--cidfile", cid}, "whoami", "--json")
	if err != nil {
		t.Fatal(err)
	}
	id := readFile(t, cid)
	f.wantNamed(out, "docker", id)
	if p := strings.Join(f.powers(id), " "); !strings.Contains(p, "cgroup-parent") || strings.Contains(p, "no-cgroup") {
		t.Errorf("power %s", p)
	}
}

func TestPodmanUserNamespaces(t *testing.T) {
	f := gateFixture(t)
	podman := podmanCimactl(t)
	subordinates(t, "containers:200000:1000000\n")
	for name, flags := range map[string][]string{
		"none":       nil,
		"uidmap":     {"--uidmap", "0:100000:65536"},
		"auto":       {"--userns", "auto"},
		"gid apart":  {"--uidmap", "0:100000:65536", "--gidmap", "0:300000:65536"},
		"other user": {"--uidmap", "0:100000:65536", "--user", "1234"},
	} {
		t.Run(name, func(t *testing.T) {
			cid := filepath.Join(t.TempDir(), "cid")
			args := append([]string{"run", "--rm", "--network", "none", "--cidfile", cid, "-v", f.socketMount()}, flags...)
			out, err := podman(append(args, podmanImage, "/cimactl", "whoami", "--json")...)
			if err != nil {
				t.Fatal(err)
			}
			id := readFile(t, cid)
			f.wantNamed([]byte(out), "podman", id)
			// podman gives such a container no rules for devices (device:*).
			if p := strings.Join(f.powers(id), " "); p != "" && p != "[device:*]" {
				t.Errorf("power %s", p)
			}
		})
	}
	if log := f.log.String(); strings.Contains(log, "was not measured") {
		t.Error("a start was missed")
	}
	// Somebody who has the container's root could give the runtime another bundle.
	subordinates(t, "1000:100000:65536\n")
	cid := filepath.Join(t.TempDir(), "cid")
	out, err := podman("run", "--rm", "--network", "none", "--cidfile", cid, "-v", f.socketMount(), "--uidmap", "0:100000:65536", podmanImage, "/cimactl", "whoami", "--json")
	if err != nil {
		t.Fatal(err)
	}
	id := readFile(t, cid)
	f.wantNamed([]byte(out), "podman", id)
	if p := strings.Join(f.powers(id), " "); !strings.Contains(p, "replaceable-bundle") {
		t.Errorf("power %s", p)
	}
}

// Podman's pods, and what it lets one ask of cgroups.
func TestPodmanCgroups(t *testing.T) {
	f := gateFixture(t)
	image, err := shell()
	if err != nil {
		t.Skip("left out:", err)
	}
	podman := podmanWith(t, "runc", image)
	subordinates(t, "containers:200000:1000000\n")
	whoami := func(name string, flags ...string) {
		t.Run(name, func(t *testing.T) {
			cid := filepath.Join(t.TempDir(), "cid")
			args := append([]string{"run", "--rm", "--cidfile", cid, "-v", f.socketMount()}, flags...)
			out, err := podman(append(args, podmanImage, "/bin/cimactl", "whoami", "--json")...)
			if err != nil {
				t.Fatal(err)
			}
			f.wantNamed([]byte(out), "podman", readFile(t, cid))
		})
	}
	for name, flags := range map[string][]string{
		"without a cgroup of conmon": {"--cgroups", "no-conmon"}, "relative parent": {"--cgroup-parent", "rel"}, "absolute parent": {"--cgroup-parent", "/abs/x"},
		"host's cgroups in view": {"--cgroupns", "host"}, "its own in view": {"--cgroupns", "private"},
	} {
		whoami(name, append([]string{"--network", "none"}, flags...)...)
	}
	for pod, flags := range map[string][]string{"plain": nil, "userns": {"--userns", "auto"}, "parent": {"--cgroup-parent", "x/y"}} {
		args := append([]string{"pod", "create", "--name", pod, "--network", "none", "--infra-image", podmanImage, "--infra-command", "/bin/sleep 1000"}, flags...)
		if _, err := podman(args...); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { podman("pod", "rm", "-f", "-t", "0", pod) })
		whoami("pod, "+pod, "--pod", pod)
	}
}

// subordinates gives this program's namespaces an /etc/subuid and an /etc/subgid.
func subordinates(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sub")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := unix.Mount(file, name, "", unix.MS_BIND, ""); err != nil {
			t.Fatalf("mount over %s: %v", name, err)
		}
		t.Cleanup(func() { unix.Unmount(name, unix.MNT_DETACH) })
	}
}

// ctr runs cimactl by containerd's own client, in a root file system of the test's.
func (f *fixture) ctr(namespace, id string, flags ...string) ([]byte, error) {
	f.t.Helper()
	args := append([]string{"-a", ownSocket, "-n", namespace, "run", "--rm", "--rootfs", "--mount",
		"type=bind,src=" + filepath.Dir(f.socket()) + ",dst=/run/cima,options=rbind:ro"}, flags...)
	c := exec.Command("ctr", append(args, f.rootfs(), id, "/cimactl", "whoami", "--json")...)
	var text strings.Builder
	c.Stderr = &text
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text.String())
	}
	return out, err
}

// rootfs is a root file system of cimactl alone. A mount, as engines make it.
func (f *fixture) rootfs() string {
	f.t.Helper()
	if _, err := exec.LookPath("ctr"); err != nil {
		f.t.Skip("left out: no ctr")
	}
	dir := filepath.Join(f.dir, "rootfs")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	program, err := cimactl()
	if err == nil {
		err = errors.Join(os.MkdirAll(dir+"/run/cima", 0o755), os.WriteFile(dir+"/cimactl", program, 0o755), unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func randomID(t *testing.T) string {
	t.Helper()
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[:])
}

// A kubelet with the systemd driver names a unit, and a containerd without it takes
// that for a path.
func TestCgroupOfTheOtherDriver(t *testing.T) {
	f := gateFixture(t)
	spread(t, "/run/docker/containerd/containerd.pid")
	id := randomID(t)
	for name, cgroup := range map[string]string{
		"a unit":                  "kubepods-besteffort-pod0123.slice:cri-containerd:" + id,
		"a unit, by another name": "kubepods-besteffort-pod0123.slice:cri-containerd:web",
		"no unit":                 "a:b:c:d",
		"a path":                  "some/where/web",
		"an absolute path":        "/some/where/web",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := f.ctr("k8s.io", id, "--cgroup", cgroup)
			if err != nil {
				t.Fatal(err)
			}
			f.wantNamed(out, "containerd", "k8s.io:"+id)
		})
	}
}

// Whoever may use containerd may name a container as docker named another: I1 of the
// attacks. That one keeps its name, its launch and its start, also if its runtime is
// executed meanwhile; the new one gets no evidence, and is announced.
func TestAnothersID(t *testing.T) {
	f := gateFixture(t)
	victim := f.hold()
	exec := func() []byte { return []byte(docker(t, "exec", victim, "/cimactl", "whoami", "--json")) }
	f.wantNamed(exec(), "docker", victim)
	f.wantQuiet()
	before := f.operations(victim)
	for _, namespace := range []string{"default", "k8s.io"} {
		for name, flags := range map[string][]string{"its own cgroup": nil, "below the victim's": {"--cgroup", "/docker/" + victim + "/" + victim}} {
			t.Run(namespace+", "+name, func(t *testing.T) {
				if out, err := f.ctr(namespace, victim, flags...); err == nil || !strings.Contains(err.Error(), "could not be attributed") {
					t.Errorf("%s: %v", out, err)
				}
				f.wantNamed(exec(), "docker", victim)
			})
		}
	}
	if after := f.operations(victim); after != before {
		t.Errorf("the log of the victim was %q, is %q", before, after)
	}
	if start := f.startOfContainer(victim); start != logs.StartGated {
		t.Errorf("the victim's start: %q", start)
	}
	missed := 0
	for _, e := range f.events() {
		if e.Operation == logs.OpMissed && strings.Contains(string(e.Body()), "another container has this id") {
			missed++
		}
	}
	if missed == 0 {
		t.Error("that it was not measured is not public")
	}
	// A usual container of the same client is named, and the victim may start anew.
	id := randomID(t)
	out, err := f.ctr("k8s.io", id)
	if err != nil {
		t.Fatal(err)
	}
	f.wantNamed(out, "containerd", "k8s.io:"+id)
	docker(t, "restart", "-t", "0", victim)
	f.wantNamed(exec(), "docker", victim)
	if start := f.startOfContainer(victim); start != logs.StartGated {
		t.Errorf("the victim's start, after a restart: %q", start)
	}
}

// A container that has a docker container's id before docker starts that one again takes
// nothing from it: the id is docker's.
func TestIDIsDockers(t *testing.T) {
	f := gateFixture(t)
	victim := docker(t, "create", "-i", "--network", "none", "-v", f.socketMount(), testImage, "/cimactl", "evidence", "--nonce", "-")
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", victim).Run() })
	thief := exec.Command("ctr", "-a", ownSocket, "-n", "default", "run", "--rm", "--rootfs", "--mount",
		"type=bind,src="+filepath.Dir(f.socket())+",dst=/run/cima,options=rbind:ro", f.rootfs(), victim, "/cimactl", "evidence", "--nonce", "-")
	in, err := thief.StdinPipe() // it waits for a nonce
	if err == nil {
		err = thief.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		thief.Wait()
	})
	daemontest.Eventually(t, "it runs", func() bool { return strings.Contains(f.operations("default:"+victim), logs.OpLaunch) })
	docker(t, "start", victim)
	f.wantNamed([]byte(docker(t, "exec", victim, "/cimactl", "whoami", "--json")), "docker", victim)
	if start := f.startOfContainer(victim); start != logs.StartGated {
		t.Errorf("docker's start: %q", start)
	}
	if all := f.operations(victim); strings.Count(all, logs.OpLaunch) != 1 || strings.Contains(all, logs.OpExit) {
		t.Errorf("logged of docker's: %q", all)
	}
}
