package daemon

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
)

// twins are two lines that act differently, and once had one launch digest.
var twins = []struct {
	row, one, other string
	equal           bool // they are to have one launch digest: they differ in what nobody is to see
}{
	{"D1: a volume filled before", "docker run -v /x", "docker run -v {filled}:/x", false},
	{"D1: podman, a volume filled before", "podman run -v /x", "podman run -v {filled}:/x", false},
	{"D1: another's anonymous volume", "docker run -v /x", "docker run -v {anonymous}:/x", false},
	{"D1: named", "docker run -v one:/x", "docker run -v two:/x", false},
	{"D5: PATH", "docker run -e PATH=/a", "docker run -e PATH=/b", false},
	{"D5: LD_PRELOAD", "docker run -e LD_PRELOAD=/a.so", "docker run -e LD_PRELOAD=/b.so", false},
	{"D5: podman, LD_PRELOAD", "podman run -e LD_PRELOAD=/a.so", "podman run -e LD_PRELOAD=/b.so", false},
	{"D5: another loader", "docker run -e JAVA_TOOL_OPTIONS=a", "docker run -e JAVA_TOOL_OPTIONS=b", false},
	{"D5: declared public", "docker run -e API_URL=https://a", "docker run -e API_URL=https://b", false},
	{"D5: podman, declared public", "podman run -e API_URL=https://a", "podman run -e API_URL=https://b", false},
	{"D5: a name", "docker run -e TOKEN=a", "docker run -e KEY=a", false},
	{"D5: a secret", "docker run -e TOKEN=a", "docker run -e TOKEN=b", true},
	{"D5: podman, a secret", "podman run -e TOKEN=a", "podman run -e TOKEN=b", true},
	{"D6: secrets", "podman run --secret s1,target=k", "podman run --secret s2,target=k", false},
	{"D6: secrets as variables", "podman run --secret s1,type=env,target=PATH", "podman run --secret s2,type=env,target=PATH", false},

	{"D5: Java's classes", "docker run -e CLASSPATH=/a.jar", "docker run -e CLASSPATH=/b.jar", false},
	{"D7: podman, what a tmpfs has at first", "podman run --tmpfs /etc", "podman run --tmpfs /etc:notmpcopyup", false},

	{"source of a bind", "docker run -v {srv}/data:/x", "docker run -v {srv}/socket:/x", false},
	{"source of a bind in podman", "podman run -v {srv}/data:/x", "podman run -v {srv}/socket:/x", false},
	{"working directory", "docker run -w /a", "docker run -w /b", false},
	{"working directory by a descriptor", "docker run -w /a", "docker run -w /proc/self/fd/9999", false},
	{"user", "docker run -u 1000", "docker run -u 1001", false},
	{"groups", "docker run --group-add 44", "docker run --group-add 45", false},
	{"entrypoint", "docker run --entrypoint /cimactl", "docker run --entrypoint //cimactl", false},
	{"sysctl", "docker run --sysctl net.core.somaxconn=1", "docker run --sysctl net.core.somaxconn=2", false},
	{"annotation", "podman run --annotation a=b", "podman run --annotation a=c", false},
	{"annotation of crun's", "podman run --annotation run.oci.keep_original_groups=1", "podman run --annotation run.oci.keep_original_groups=0", false},
	{"mask", "podman run --security-opt unmask=/proc/acpi", "podman run --security-opt unmask=/proc/keys", false},
	{"a device's name", "docker run --device /dev/zero:/dev/a", "docker run --device /dev/zero:/dev/b", false},
	{"a device's access", "docker run --device /dev/fuse:/dev/f:r", "docker run --device /dev/fuse:/dev/f:rw", false},
	{"umask", "podman run --umask 0077", "podman run --umask 0000", false},
	{"options of a tmpfs", "docker run --tmpfs /t:exec", "docker run --tmpfs /t", false},
	{"order of mounts", "docker run -v {srv}/data:/x -v {srv}/socket:/x/y", "docker run -v {srv}/socket:/x -v {srv}/data:/x/y", false},
	{"quantities", "docker run -m 64m --shm-size 8m --ulimit nofile=512 --oom-score-adj 5", "docker run -m 65m --shm-size 9m --ulimit nofile=513 --oom-score-adj 6", true},

	{"H7: variables by a file", "docker run --env-file {dir}/env1", "docker run --env-file {dir}/env2", false},
	{"H7: host name", "docker run --hostname a", "docker run --hostname b", false},
	{"H7: domain name", "docker run --domainname a", "docker run --domainname b", false},
	{"H7: podman, a unit's property", "podman run --annotation org.systemd.property.KillSignal=9", "podman run --annotation org.systemd.property.KillSignal=15", false},
	{"H7: podman, hooks", "podman --hooks-dir {dir}/hooks run", "podman run", false},
	{"H7: an init of the engine's", "docker run --init", "docker run", false},
	{"H7: a sysctl", "docker run --sysctl net.ipv4.ip_forward=0", "docker run --sysctl net.ipv4.ip_forward=1", false},
	{"H7: no hosts", "podman run --no-hosts", "podman run", true},
	// What the engine writes into files of its own, and what no runtime is told
	// (cimad(8), Limits of the gate).
	{"H7: hosts", "docker run --add-host a:1.2.3.4", "docker run --add-host a:5.6.7.8", true},
	{"H7: podman, hosts", "podman run --add-host a:1.2.3.4", "podman run --add-host a:5.6.7.8", true},
	{"H7: name servers", "docker run --dns 192.0.2.1", "docker run --dns 192.0.2.2", true},
	{"H7: podman, time zone", "podman run --tz UTC", "podman run --tz Europe/Berlin", true},
	{"H7: podman, users", "podman run -u 1000 --passwd-entry a:x:1000:0::/a:/a", "podman run -u 1000 --passwd-entry b:x:1000:0::/b:/b", true},
	{"H7: a stricter profile", "docker run --security-opt seccomp={dir}/strict.json", "docker run", true}, // their defaults digests differ
	{"H7: health checks", "docker run --health-cmd a", "docker run --health-cmd b", true},
	{"H7: signals", "docker run --stop-signal 9", "docker run --stop-signal 15", true},

	{"what the container doesn't see", "docker run --log-driver none --label a=b", "docker run --label c=d", true},
}

// Two containers that act differently have two launch digests, and those that differ in
// what nobody is to see have one.
func TestTwins(t *testing.T) {
	s := newScene(t, func(c *config.Config) { c.Launch.Public = []string{"API_URL"} })
	s.words["filled"] = randomID(t)
	podman := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("podman", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() { podman("volume", "rm", "-f", s.words["filled"]) })
	docker(t, "volume", "create", s.words["filled"])
	podman("volume", "create", s.words["filled"])
	other := docker(t, "create", "-v", "/x", testImage, "/cimactl")
	t.Cleanup(func() { docker(t, "rm", "-f", other) })
	s.words["anonymous"] = docker(t, "inspect", "--format", "{{range .Mounts}}{{.Name}}{{end}}", other)
	for name, file := range map[string]string{"s1": "/etc/hostname", "s2": "/etc/os-release"} {
		podman("secret", "create", name, file)
		t.Cleanup(func() { podman("secret", "rm", name) })
	}
	ran := func(t *testing.T, line string) ran {
		r, err := s.do(t, line)
		if err != nil && !strings.Contains(line, "/proc/self/fd/") {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range twins {
		if tt.row[0] != 'D' && tt.row[0] != 'H' && !*whole {
			continue
		}
		t.Run(tt.row, func(t *testing.T) {
			one, again, other := ran(t, tt.one), ran(t, tt.one), ran(t, tt.other)
			if d := one.difference(again); d != "" {
				t.Errorf("%s: two runs differ in %s", tt.one, d)
			}
			if tt.row[0] == 'D' {
				one.wantClasses(t, "")
				other.wantClasses(t, "")
			}
			if equal := one.digest == other.digest; equal != tt.equal {
				t.Errorf("%s\n%s\nhave one launch digest: %t\n%s", tt.one, tt.other, equal, difference(one.launch.Asked, other.launch.Asked))
			}
		})
	}
}

// Whoever may use containerd chooses ids, users and root file systems.
func TestTwinsInContainerd(t *testing.T) {
	s := newScene(t)
	c := s.containerd()
	base := c.run(t, func(map[string]any) {})
	base.wantClasses(t, "")
	if d := base.difference(c.run(t, func(map[string]any) {})); d != "" {
		t.Errorf("two runs differ in %s", d)
	}
	t.Run("what it prints, in a file of the host's", func(t *testing.T) {
		with := *c
		with.flags = []string{"--log-uri", "file://" + s.dir + "/printed"}
		with.run(t, func(map[string]any) {}).wantClasses(t, "descriptor")
	})
	t.Run("D2: sources with the id in them", func(t *testing.T) {
		at := func(top string) ran {
			return c.runAs(t, randomID(t), func(id string, spec map[string]any) {
				source := filepath.Join("/srv", top, id, "conf")
				if err := os.MkdirAll(source, 0o755); err != nil {
					t.Fatal(err)
				}
				spec["mounts"] = append(spec["mounts"].([]any), map[string]any{"destination": "/conf", "type": "bind", "source": source, "options": []string{"rbind", "ro"}})
			})
		}
		a, b := at("a"), at("b")
		if a.digest == b.digest || a.digest == base.digest {
			t.Errorf("one digest: %s", difference(a.launch.Asked, b.launch.Asked))
		}
		a.wantClasses(t, "")
	})
	t.Run("D3: a directory of PATH that the user may not search", func(t *testing.T) {
		run := func(uid int) ran {
			return c.run(t, func(spec map[string]any) {
				set(spec, "process.user", map[string]any{"uid": uid, "gid": uid})
				set(spec, "process.capabilities", map[string]any{})
				set(spec, "process.env", []string{"PATH=/private:/public"})
				set(spec, "process.args", []string{"prog", "--version"})
			})
		}
		for uid, want := range map[int]string{0: "/private/prog", 1000: "/public/prog"} {
			file, err := os.ReadFile(filepath.Join(c.root, want))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha512.Sum384(file)
			if e := run(uid).launch.Entrypoint; e == nil || string(e.Path) != want || e.SHA384 != hex.EncodeToString(sum[:]) {
				t.Errorf("uid %d: the entrypoint is %+v, must be %s", uid, e, want)
			}
		}
	})
}

// containerd runs specifications as they are, by its own client, in a root file system
// below /srv.
type containerd struct {
	*scene
	root    string
	seccomp any      // docker's
	flags   []string // of ctr run, besides
}

func (s *scene) containerd() *containerd {
	s.t.Helper()
	if _, err := exec.LookPath("ctr"); err != nil {
		s.t.Skip("left out: no ctr")
	}
	program, err := cimactl()
	if err != nil {
		s.t.Fatal(err)
	}
	root := "/srv/root"
	raw, err := os.ReadFile("/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/" + s.words["victim"] + "/config.json")
	for _, dir := range []string{"/private", "/public"} {
		err = errors.Join(err, os.MkdirAll(root+dir, 0o755), os.WriteFile(root+dir+"/prog", append(program[:len(program):len(program)], dir...), 0o755))
	}
	err = errors.Join(err, os.Chmod(root+"/private", 0o700), os.WriteFile(root+"/cimactl", program, 0o755), unix.Mount(root, root, "", unix.MS_BIND, ""))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })
	return &containerd{scene: s, root: root, seccomp: decode[struct{ Linux struct{ Seccomp any } }](s.t, raw).Linux.Seccomp}
}

func (c *containerd) run(t *testing.T, change func(spec map[string]any)) ran {
	t.Helper()
	return c.runAs(t, "attack-"+randomID(t)[:8], func(_ string, spec map[string]any) { change(spec) })
}

// runAs runs a changed specification. Whether the runtime takes it does not matter: the
// launch is logged before.
func (c *containerd) runAs(t *testing.T, id string, change func(id string, spec map[string]any)) ran {
	t.Helper()
	text, err := exec.Command("ctr", "oci", "spec").Output()
	if err != nil {
		t.Fatal(err)
	}
	spec := decode[map[string]any](t, text)
	spec["root"] = map[string]any{"path": c.root}
	spec["mounts"] = slices.DeleteFunc(spec["mounts"].([]any), func(m any) bool { return m.(map[string]any)["destination"] == "/run" })
	set(spec, "linux.seccomp", c.seccomp)
	set(spec, "linux.cgroupsPath", "/"+id)
	set(spec, "process.args", []string{"/cimactl", "--version"})
	set(spec, "process.terminal", false)
	change(id, spec)
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, mustJSON(t, spec), 0o600); err != nil {
		t.Fatal(err)
	}
	ctr := func(args ...string) ([]byte, error) {
		return exec.Command("ctr", append([]string{"-a", ownSocket, "-n", "attacks"}, args...)...).CombinedOutput()
	}
	t.Cleanup(func() {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if out, err := ctr("container", "rm", id); err == nil || strings.Contains(string(out), "not found") {
				return
			}
			ctr("task", "rm", "-f", id)
		}
	})
	out, err := ctr(append(append([]string{"run", "--rm", "--config", file}, c.flags...), id)...)
	t.Log(fmt.Sprintf("%.300s", out), err)
	return c.logged(t, "attacks:"+id)
}
