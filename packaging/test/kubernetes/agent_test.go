package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// build makes a static program of CIMA's.
func build(t *testing.T, dir, name, from string) string {
	t.Helper()
	out := filepath.Join(dir, name)
	c := exec.Command("go", "build", "-trimpath", "-o", out, from)
	c.Dir, c.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}

// background runs a program until the test ends. If the test fails, the end of what the
// program printed is shown.
func background(t *testing.T, dir string, command ...string) {
	t.Helper()
	name := filepath.Base(command[0])
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(command[0], command[1:]...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s: %s", name, text[max(0, len(text)-8000):])
		}
	})
}

// agent starts a cimad on a simulated TD, with its gate, and waits until it answers.
func agent(t *testing.T, sim, config string) (root string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "cimad.toml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	background(t, dir, sim, "--config", file)
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		const pem = "/run/cima-td/root.pem"
		_, err := os.Stat(pem)
		_, err2 := os.Stat("/run/cima/cima.sock")
		if err == nil && err2 == nil {
			return pem
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("cimad-sim doesn't serve /run/cima")
		}
	}
}

// publish has the CRI plugin know an image with one program, made as make packages makes it,
// and returns the archive.
func (n *node) publish(dir, name, program string) string {
	n.Helper()
	writer := build(n.T, dir, "image", "./packaging/image")
	notice, archive := filepath.Join(dir, "NOTICE"), program+".oci.tar"
	if err := os.WriteFile(notice, []byte("licences"), 0o644); err != nil {
		n.Fatal(err)
	}
	repository, tag, _ := strings.Cut(name, ":")
	host := strings.TrimSpace(string(must(n.T, exec.Command("go", "env", "GOARCH"))))
	must(n.T, exec.Command(writer, "-out", archive, "-name", repository, "-tag", tag, "-notice", notice, "-epoch", "1700000000", host+"="+program))
	must(n.T, exec.Command("ctr", "-n", "k8s.io", "images", "import", archive))
	n.known(name)
	return archive
}

// run runs a container of the image of cimactl to its end, and returns what it printed.
func (n *node) run(sandbox string, pod *cri.PodSandboxConfig, args ...string) string {
	n.Helper()
	made, err := n.runtime.CreateContainer(n.Context(), &cri.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: pod,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "cimactl"}, Image: &cri.ImageSpec{Image: tool}, Args: args, LogPath: "cimactl.log",
			Envs:   []*cri.KeyValue{{Key: "CIMA_SOCKET", Value: []byte("/run/cima/cima.sock")}},
			Mounts: []*cri.Mount{{ContainerPath: "/run/cima", HostPath: "/run/cima", Readonly: true}},
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: pod.Linux.SecurityContext.NamespaceOptions, NoNewPrivs: true, RunAsUser: &cri.Int64Value{Value: 65534},
				Capabilities: &cri.Capability{DropCapabilities: []string{"ALL"}},
				Seccomp:      &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			}},
		},
	})
	if err == nil {
		_, err = n.runtime.StartContainer(n.Context(), &cri.StartContainerRequest{ContainerId: made.ContainerId})
	}
	if err != nil {
		n.Fatal(err)
	}
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		s, err := n.runtime.ContainerStatus(n.Context(), &cri.ContainerStatusRequest{ContainerId: made.ContainerId})
		if err != nil {
			n.Fatal(err)
		}
		if s.Status.State == cri.ContainerState_CONTAINER_EXITED {
			text, err := os.ReadFile(filepath.Join(pod.LogDirectory, "cimactl.log"))
			if err != nil || s.Status.ExitCode != 0 {
				n.Fatalf("%d, %v: %s", s.Status.ExitCode, err, text)
			}
			return printed(string(text))
		}
		if time.Since(begun) > 2*time.Minute {
			n.Fatal("the container doesn't end")
		}
	}
}

// printed takes the time, the stream and the mark off each line of a CRI log.
func printed(log string) (out string) {
	for line := range strings.Lines(log) {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) == 4 && parts[1] == "stdout" {
			out += strings.TrimSuffix(parts[3], "\n")
			if parts[2] == "F" {
				out += "\n"
			}
		}
	}
	return out
}

// A pod of the image that make packages writes gets evidence about itself, measured before
// its first instruction: it names the image and the pod, and a policy that wants them
// trusts it, and no other.
func TestEvidenceOfAPod(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	cimactl, sim := build(t, dir, "cimactl", "./rpc/cimactl"), build(t, dir, "cimad-sim", "./daemon/cimad-sim")
	n.publish(dir, tool, cimactl)

	root := agent(t, sim, "")
	sandbox, config := n.pod("web-1")
	var who struct {
		Container struct {
			Pod                map[string]string
			ImageDigest        string `json:"image_digest"`
			Image, Runtime, ID string
			Assurance          struct{ Start string }
			LaunchDigest       string `json:"launch_digest"`
		}
	}
	evidence := n.run(sandbox, config, "evidence", "--nonce", "00112233445566778899aabbccddeeff")
	bundle := filepath.Join(dir, "evidence.json")
	if err := os.WriteFile(bundle, []byte(evidence), 0o644); err != nil {
		t.Fatal(err)
	}
	var ev struct{ Claims json.RawMessage }
	if err := json.Unmarshal([]byte(evidence), &ev); err != nil {
		t.Fatalf("%v: %.300s", err, evidence)
	}
	if err := json.Unmarshal(ev.Claims, &who); err != nil {
		t.Fatal(err)
	}
	c := who.Container
	if c.Pod["namespace"] != "prod" || c.Pod["name"] != "web-1" || c.Pod["container"] != "cimactl" || c.Pod["uid"] != config.Metadata.Uid ||
		c.Image != tool || !strings.HasPrefix(c.ImageDigest, "sha256:") || c.Runtime != "containerd" || c.Assurance.Start != "gated" {
		t.Errorf("%s", ev.Claims)
	}
	sandbox, config = n.pod("web-2")
	if err := json.Unmarshal([]byte(n.run(sandbox, config, "whoami", "--json")), &who); err != nil {
		t.Fatal(err)
	}
	if p := who.Container.Pod; p["namespace"] != "prod" || p["name"] != "web-2" || p["container"] != "cimactl" || p["uid"] != config.Metadata.Uid {
		t.Errorf("WhoAmI says the pod is %v", p)
	}
	policy := func(namespace string) string {
		file := filepath.Join(dir, "policy-"+namespace+".toml")
		text := string(must(t, exec.Command(cimactl, "policy", "init", bundle, "--trust-root", root)))
		at := "[[container]]\n"
		i := strings.Index(text, at)
		if i < 0 {
			t.Fatalf("no %s in %s", at, text)
		}
		end := i + len(at) + strings.Index(text[i+len(at):]+"\n[", "\n[")
		text = text[:end] + fmt.Sprintf("\nmatch.pod = { namespace = %q, name = { prefix = \"web-\" } }\n", namespace) + text[end:]
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for namespace, trusts := range map[string]bool{"prod": true, "kube-system": false} {
		out, err := exec.Command(cimactl, "verify", "--trust-root", root, "--nonce", "00112233445566778899aabbccddeeff", "--json", "--policy", policy(namespace), bundle).Output()
		var r struct {
			Steps []struct{ Name, Outcome, Detail string }
		}
		if json.Unmarshal(out, &r) != nil {
			t.Fatalf("%v: %s", err, out)
		}
		seen := 0
		for _, s := range r.Steps {
			switch s.Name {
			case "caller", "runtime-log", "log-claims", "report-data", "caller-values":
				seen++
			}
			switch s.Name {
			case "caller", "runtime-log", "log-claims", "report-data":
				if s.Outcome != "pass" {
					t.Errorf("%+v", s)
				}
			case "caller-values":
				if (s.Outcome == "pass") != trusts {
					t.Errorf("a policy for the namespace %s: %+v", namespace, s)
				}
			}
		}
		if seen != 5 {
			t.Errorf("%d steps were looked at: %s", seen, out)
		}
	}
}

func must(t *testing.T, c *exec.Cmd) []byte {
	t.Helper()
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%q: %v: %s%s", c.Args, err, out, errs.String())
	}
	return out
}

// known waits until the CRI plugin knows an image.
func (n *node) known(name string) {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 30*time.Second)
	defer cancel()
	for {
		is, err := n.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
		if err == nil && is.Image != nil {
			return
		}
		if ctx.Err() != nil {
			n.Fatal(name, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
