package daemon

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
)

// announced are the classes of power in the log.
func (f *fixture) announced() (all []string) {
	for _, e := range f.events() {
		if e.Operation == logs.OpPower {
			all = append(all, decode[logs.PowerBody](f.t, e.Body()).Classes...)
		}
	}
	return all
}

// wantPower checks that a class is in the log, and that another container's
// evidence is trusted only under a policy that allows the class.
func (f *fixture) wantPower(policy string, class string) {
	f.t.Helper()
	all := f.announced()
	if !slices.Contains(all, class) {
		f.t.Errorf("%s is not announced: %q", class, all)
		return
	}
	bundle := f.evidenceOf()
	under := func(allowed []string) *verify.Result {
		words, err := json.Marshal(allowed)
		if err != nil {
			f.t.Fatal(err)
		}
		return f.appraise(bundle, f.parse(strings.Replace(policy, "allow = []", "allow = "+string(words), 1)))
	}
	if r := under(all); r.Verdict != verify.Trusted {
		f.t.Errorf("under a policy that allows all: %s: %s", r.Verdict, r.Reason)
	}
	if r := under(slices.DeleteFunc(slices.Clone(all), func(c string) bool { return c == class })); r.Verdict != verify.NotTrusted || !strings.Contains(r.Step(verify.StepPower).Detail, class) {
		f.t.Errorf("under a policy that allows all but %s: %s: %s", class, r.Verdict, r.Step(verify.StepPower).Detail)
	}
}

// podman can be asked for what docker refuses: no confinement by SELinux. Its
// records show that the confinement is off, even without SELinux.
func TestPowerInPodman(t *testing.T) {
	f := gateFixture(t)
	policy := f.policyText(f.evidenceOf())
	podman := podmanCimactl(t)
	if out, err := podman("run", "--rm", "--network", "none", "--security-opt", "label=disable", podmanImage, "/cimactl", "--version"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.wantPower(policy, "unconfined:selinux")
}

// containerd runs containers that neither docker nor podman makes: one in the
// host's mount namespace, and one without a cgroup of its own.
func TestPowerInContainerd(t *testing.T) {
	f := gateFixture(t)
	policy := f.policyText(f.evidenceOf())
	const socket = "/run/docker/containerd/containerd.sock"
	if err := exec.Command("ctr", "-a", socket, "version").Run(); err != nil {
		t.Skip("left out: ctr reaches no containerd of docker's:", err)
	}
	for class, change := range map[string]func(linux map[string]any){
		"namespace:mount": func(linux map[string]any) {
			linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool { return n.(map[string]any)["type"] == "mount" })
		},
		"no-cgroup": func(linux map[string]any) { delete(linux, "cgroupsPath") },
	} {
		root := bareRoot(t)
		text, err := exec.Command("ctr", "oci", "spec").Output()
		if err != nil {
			t.Fatal(err)
		}
		spec := decode[map[string]any](t, text)
		linux := spec["linux"].(map[string]any)
		id := "cima-power-" + strings.ReplaceAll(class, ":", "-")
		linux["cgroupsPath"] = "/" + id
		delete(linux, "maskedPaths") // these need a mount namespace of the container's own
		delete(linux, "readonlyPaths")
		change(linux)
		spec["mounts"] = []any{}
		spec["root"] = map[string]any{"path": root}
		spec["process"].(map[string]any)["args"] = []string{"/cimactl", "--version"}
		spec["process"].(map[string]any)["terminal"] = false
		text, err = json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		ctr := func(args ...string) ([]byte, error) {
			return exec.Command("ctr", append([]string{"-a", socket, "-n", "cima-power"}, args...)...).CombinedOutput()
		}
		t.Cleanup(func() {
			ctr("task", "kill", "-s", "KILL", id)
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				if out, err := ctr("container", "rm", id); err == nil || strings.Contains(string(out), "not found") {
					return
				}
				ctr("task", "rm", id)
			}
		})
		if out, err := ctr("run", "--rm", "--config", config, id); err != nil || !strings.Contains(string(out), "cimactl") {
			t.Fatalf("%s: %v: %s", class, err, out)
		}
		f.wantPower(policy, class)
	}
}

// bareRoot is a root file system of cimactl and /proc alone. A runtime leaves
// its mounts behind if the container has no namespace for them.
func bareRoot(t *testing.T) string {
	root := t.TempDir()
	proc := filepath.Join(root, "proc")
	if err := os.Mkdir(proc, 0o755); err != nil {
		t.Fatal(err)
	}
	id := docker(t, "create", testImage, "/cimactl")
	defer docker(t, "rm", id)
	docker(t, "cp", id+":/cimactl", root)
	if out, err := exec.Command("mount", "-t", "proc", "proc", proc).CombinedOutput(); err != nil {
		t.Skipf("left out: no /proc can be mounted: %s", out)
	}
	t.Cleanup(func() {
		for exec.Command("umount", "-l", root).Run() == nil {
		}
		for exec.Command("umount", "-l", proc).Run() == nil {
		}
	})
	return root
}
