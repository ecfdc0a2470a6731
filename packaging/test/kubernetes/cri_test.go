package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cima-project/cima/packaging/test/engine"
)

const (
	socket = "/run/containerd/containerd.sock"
	pause  = "registry.example/pause:1"
	app    = "registry.example/team/app:2"
	tool   = "registry.example/cimactl:1"
	logs   = "/run/cima-test/pods"
)

// node is a containerd with its CRI plugin, and what a kubelet knows of it.
type node struct {
	*testing.T
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	cni     string // where the CRI plugin looks for network plug-ins and what is configured
}

// newNode starts the machine's containerd at its usual places, in the namespaces that
// engine.Alone made, and gives it two images.
func newNode(t *testing.T) *node {
	t.Helper()
	for _, program := range []string{"containerd", "ctr", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("left out: no", program, "on this machine")
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root")
	}
	if _, err := os.Stat("/run/cima-test"); err != nil {
		t.Skip("left out: no namespaces for a containerd of the test's own")
	}
	dir := t.TempDir()
	config, cni := filepath.Join(dir, "config.toml"), filepath.Join(dir, "cni")
	text := fmt.Sprintf(`version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = %q
`, pause, cni, cni)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	background(t, dir, "containerd", "--config", config)
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	n := &node{t, cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection), cni}
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, err := n.runtime.Version(t.Context(), &cri.VersionRequest{})
		if err == nil {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal(err)
		}
	}
	for _, name := range []string{pause, app} {
		n.load(name)
	}
	return n
}

// load makes an image of the machine's busybox, and has the CRI plugin know it.
func (n *node) load(name string) {
	n.Helper()
	root := engine.NewImage().Folder("etc", 0o755).Folder("proc", 0o755).Folder("sys", 0o755).Folder("dev", 0o755)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		n.Skip("left out: no busybox on this machine")
	}
	root.File("bin/busybox", busybox).Text("etc/name", []byte(name))
	layer, err := root.Bytes()
	if err != nil {
		n.Fatal(err)
	}
	archive, err := ociArchive(name, layer)
	if err != nil {
		n.Fatal(err)
	}
	c := exec.Command("ctr", "-n", "k8s.io", "images", "import", "-")
	c.Stdin = strings.NewReader(archive)
	if out, err := c.CombinedOutput(); err != nil {
		n.Fatalf("%v: %s", err, out)
	}
	n.known(name)
}

// pod makes the sandbox of a pod, in the host's network: there is no other.
func (n *node) pod(name string) (string, *cri.PodSandboxConfig) {
	n.Helper()
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Namespace: "prod", Uid: "0b7c3f51-1111-2222-3333-4444" + name[len(name)-1:]},
		LogDirectory: filepath.Join(logs, name),
		Labels:       map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "prod"},
		// An author of pods may write any annotation.
		Annotations: map[string]string{"io.kubernetes.cri.sandbox-namespace": "kube-system", "io.kubernetes.cri.sandbox-name": "victim"},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "/kubepods/besteffort/pod" + name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
				Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			},
		},
	}
	made, err := n.runtime.RunPodSandbox(n.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() {
		ctx := context.Background()
		_, err := n.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: made.PodSandboxId})
		_, err2 := n.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: made.PodSandboxId})
		if err := errors.Join(err, err2); err != nil {
			n.Error(err)
		}
	})
	return made.PodSandboxId, config
}

// container starts a container in a sandbox, as a kubelet asks for it.
func (n *node) container(sandbox string, config *cri.PodSandboxConfig, env ...*cri.KeyValue) string {
	n.Helper()
	made, err := n.runtime.CreateContainer(n.Context(), &cri.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "app"}, Image: &cri.ImageSpec{Image: app},
			Command: []string{"/bin/busybox", "sleep", "1000"}, Envs: env, LogPath: "app.log",
			Annotations: map[string]string{"io.kubernetes.cri.sandbox-uid": "victims"},
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: config.Linux.SecurityContext.NamespaceOptions, NoNewPrivs: true,
				Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
			}},
		},
	})
	if err == nil {
		_, err = n.runtime.StartContainer(n.Context(), &cri.StartContainerRequest{ContainerId: made.ContainerId})
	}
	if err != nil {
		n.Fatal(err)
	}
	return made.ContainerId
}
