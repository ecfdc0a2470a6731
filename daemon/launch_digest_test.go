package daemon

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// Equal docker command lines give equal digests in evidence, and every change
// of the line gives another one.
func TestLaunchDigestsInDocker(t *testing.T) {
	f := dockerFixture(t)
	docker(t, "tag", testImage, "cima-daemon-test:2") // the same image by another name
	base := f.digestOf()
	if f.digestOf() != base {
		t.Fatal("two equal lines have two digests")
	}
	seen := map[rpc.Digest]string{base: "nothing"}
	for name, flags := range map[string][]string{
		"environment": {"--env", "A=1"},
		"mount":       {"-v", "/srv:/srv:ro"},
		"privileged":  {"--privileged"},
		"capability":  {"--cap-add", "NET_ADMIN"},
		"less":        {"--cap-drop", "CHOWN"},
		"device":      {"--device", "/dev/full:/dev/other"},
		"pid=host":    {"--pid", "host"},
		"user":        {"--user", "1"},
		"read-only":   {"--read-only"},
	} {
		if name == "privileged" && !runsPrivileged() {
			t.Log("not met: this machine can't run privileged containers; see TestDockerPrivileged of launch")
			continue
		}
		d := f.digestOf(flags...)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
	of := func(args ...string) rpc.Digest {
		run := []string{"run", "--rm", "--network", "none", "-v", filepath.Dir(f.socket()) + ":/run/cima:ro"}
		return claimsOf(t, []byte(docker(t, append(run, args...)...))).Container.LaunchDigest
	}
	if other, ok := seen[of(testImage, "/cimactl", "evidence", "--nonce="+hex.EncodeToString(nonce))]; ok {
		t.Errorf("another command and %s have one digest", other)
	}
	if of("cima-daemon-test:2", "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)) != base {
		t.Error("an image has another digest by another name")
	}
}

// runsPrivileged reports whether this machine can give all capabilities.
func runsPrivileged() bool {
	return exec.Command("docker", "run", "--rm", "--network", "none", "--privileged", testImage, "/cimactl", "--version").Run() == nil
}

func (f *fixture) digestOf(flags ...string) rpc.Digest {
	f.t.Helper()
	return claimsOf(f.t, f.evidenceOf(flags...)).Container.LaunchDigest
}

// The launch that cimactl computes from a bundle, and that from the line, is the one
// that the daemon measures.
func TestPredictInDocker(t *testing.T) {
	f := dockerFixture(t)
	image := filepath.Join(t.TempDir(), "image.tar")
	docker(t, "save", "-o", image, testImage)
	cimactl := filepath.Join(t.TempDir(), "cimactl")
	build := exec.Command("go", "build", "-o", cimactl, "../rpc/cimactl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, flags := range map[string][]string{
		"plain": nil,
		"much": {"--env", "A=1", "-v", "/srv:/srv:ro", "-v", "cima-named:/named", "-v", "/anonymous", "--cap-add", "NET_ADMIN", "--user", "7:8",
			"--read-only", "--tmpfs", "/t", "--device", "/dev/full", "--label", "x=y", "--hostname", "h"},
		"powerful": {"--cap-add", "SYS_ADMIN", "--pid", "host", "--security-opt", "seccomp=unconfined", "--device", "/dev/fuse"},
	} {
		t.Run(name, func(t *testing.T) {
			hold := f.hold(flags...)
			bundle := []byte(docker(t, "exec", "--user", "0", hold, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
			t.Cleanup(func() { exec.Command("docker", "volume", "rm", "-f", "cima-named").Run() })
			var dirs []string
			for _, pattern := range []string{"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/", "/run/containerd/io.containerd.runtime.v2.task/moby/"} {
				if _, err := os.Stat(pattern + hold); err == nil {
					dirs = append(dirs, pattern+hold)
				}
			}
			if len(dirs) != 1 {
				t.Fatalf("bundles %v", dirs)
			}
			want := claimsOf(t, bundle).Container.LaunchDigest.String()
			line := "docker create -i -v " + filepath.Dir(f.socket()) + ":/run/cima:ro " + strings.Join(flags, " ") + " " + testImage + " /cimactl evidence --nonce -"
			for how, args := range map[string][]string{
				"bundle": {"--bundle", dirs[0]},
				"line":   {"--run", line, "--image", image, "--lsm", lsm(), "--node", "/dev/fuse=" + fuse(t)},
			} {
				out, err := exec.Command(cimactl, append([]string{"predict"}, args...)...).CombinedOutput()
				if err != nil || strings.TrimSpace(string(out)) != want {
					t.Errorf("%s: predicted %s, %v; measured %s", how, out, err, want)
				}
			}
		})
	}
}

// lsm is the security module of this machine.
func lsm() string {
	text, err := os.ReadFile("/sys/kernel/security/lsm")
	for _, name := range []string{"apparmor", "selinux"} {
		if err == nil && strings.Contains(string(text), name) {
			return name
		}
	}
	return "none"
}

// fuse is /dev/fuse of this machine, as cimactl takes a node.
func fuse(t *testing.T) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/dev/fuse", &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("c:%d:%d:%o:%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Mode&0o7777, st.Uid, st.Gid)
}

// For each class of power a container has it: another container's evidence has
// the power event, and is trusted only under a policy that allows the class.
func TestEachClassOfPowerInDocker(t *testing.T) {
	f := gateFixture(t)
	policy := f.policyText(f.evidenceOf())
	f.evidenceOf() // this container, which the policy is about, runs next to all that follow
	var want []string
	for class, flags := range map[string][]string{
		"privileged":                {"--privileged"},
		"unconfined:seccomp":        {"--security-opt", "seccomp=unconfined"},
		"unconfined:paths":          {"--security-opt", "systempaths=unconfined"},
		"capability:CAP_SYS_PTRACE": {"--cap-add", "SYS_PTRACE"},
		"device:c:10:229":           {"--device", "/dev/fuse"},
		"device:b:*:*":              {"--device-cgroup-rule", "b *:* rwm"},
		"namespace:ipc":             {"--ipc", "host"},
		"namespace:network":         {"--network", "host"},
		"namespace:pid":             {"--pid", "host"},
		"namespace:uts":             {"--uts", "host"},
		"host-write:/":              {"-v", "/:/host"},
		"mount:proc":                {"-v", "/proc:/p:ro"},
		"mount:sysfs":               {"-v", "/sys:/s:ro"},
		"mount:cgroup":              {"-v", "/sys/fs/cgroup:/c"},
		"host-read:/etc":            {"-v", "/etc:/e:ro"},
		"host-write:/run":           {"-v", "/run:/r"},
		"host-write:/usr":           {"-v", "/usr/share:/u"},
		"host-write:/var":           {"-v", "/var/lib/docker:/d"},
		"special-file:/run":         {"-v", "/run/docker.sock:/d.sock:ro"},
	} {
		want = append(want, class)
		args := append([]string{"run", "--rm"}, flags...)
		if class != "namespace:network" {
			args = append(args, "--network", "none")
		}
		if out, err := exec.Command("docker", append(args, testImage, "/cimactl", "--version")...).CombinedOutput(); err != nil && class != "privileged" {
			// a machine without all capabilities logs the power, and then the
			// start fails
			t.Fatalf("%s: %v: %s", class, err, out)
		}
	}
	parent := f.hold()
	want = append(want, "cgroup-parent")
	docker(t, "run", "--rm", "--network", "none", "--cgroup-parent", "/docker/"+parent, testImage, "/cimactl", "--version")
	bundle := f.evidenceOf()
	var all []string
	for _, entry := range decode[rpc.Evidence](t, bundle).RuntimeLog {
		if e, err := logs.ParseEvent(entry.Event); err == nil && e.Operation == logs.OpPower {
			all = append(all, decode[logs.PowerBody](t, e.Body()).Classes...)
		}
	}
	under := func(allowed []string) *verify.Result {
		words, err := json.Marshal(allowed)
		if err != nil {
			t.Fatal(err)
		}
		return f.appraise(bundle, f.parse(strings.Replace(policy, "allow = []", "allow = "+string(words), 1)))
	}
	if r := under([]string{}); r.Verdict != verify.NotTrusted || r.Step(verify.StepPower).Outcome != verify.Fail {
		t.Fatalf("under a policy that allows none: %s", r.Verdict)
	}
	if r := under(all); r.Verdict != verify.Trusted {
		t.Fatalf("under a policy that allows all: %s: %s", r.Verdict, r.Reason)
	}
	for _, class := range want {
		if !slices.Contains(all, class) {
			t.Errorf("%s is not announced", class)
			continue
		}
		r := under(slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == class }))
		if s := r.Step(verify.StepPower); r.Verdict != verify.NotTrusted || s.Outcome != verify.Fail || !strings.Contains(s.Detail, class) {
			t.Errorf("under a policy that allows all but %s: %s: %s", class, r.Verdict, s.Detail)
		}
	}
}
