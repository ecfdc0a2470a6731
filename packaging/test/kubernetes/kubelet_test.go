//go:build kubelet

package kubernetes

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var kubelet = flag.String("kubelet", "", "the kubelet's program (packaging/test/kubernetes/kubelet builds it)")

const (
	known   = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"            // what the kubelet remembers of devices
	network = `{"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "none"}]}` // see plugins
)

// plugins stand for all of CNI's: pods have a network namespace of their own, and nothing in
// it; containerd wants to hear of an address all the same.
const plugins = `#!/bin/sh
[ "$CNI_COMMAND" != ADD ] || printf '{"cniVersion": "0.4.0", "interfaces": [{"name": "%s", "sandbox": "%s"}], "ips": [{"version": "4", "address": "192.0.2.2/32", "interface": 0}]}' "$CNI_IFNAME" "$CNI_NETNS"
`

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
contentType: application/json
podLogsDir: ` + logs + `
containerRuntimeEndpoint: unix://` + socket + `
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
enableServer: false
makeIPTablesUtilChains: false
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
`

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q}}]
contexts: [{name: test, context: {cluster: test}}]
current-context: test
`

// start starts the kubelet, and returns what ends it.
func (n *node) start(config, cluster string) (end func()) {
	n.Helper()
	log, err := os.Create(filepath.Join(n.TempDir(), "kubelet.log"))
	if err != nil {
		n.Fatal(err)
	}
	c := exec.Command(*kubelet, "--config", config, "--kubeconfig", cluster, "--hostname-override", "node", "--node-labels", "cima-project.github.io/tdx=true")
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		n.Fatal(err)
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && n.Failed() {
			n.Logf("kubelet: %s", text[max(0, len(text)-12000):])
		}
	}
	n.Cleanup(end)
	return end
}

// wait waits until something is true.
func (n *node) wait(what string, is func() bool) {
	n.Helper()
	for begun := time.Now(); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > 3*time.Minute {
			n.Fatal(what)
		}
	}
}

// manifest reads one of ours, with the images of this test.
func manifest(t *testing.T, name string) (meta.ObjectMeta, core.PodSpec) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	all := decode(t, strings.ReplaceAll(string(text), ":VERSION", ":1"))
	if len(all) != 1 {
		t.Fatalf("%s: %d objects", name, len(all))
	}
	switch o := all[0].(type) {
	case *core.Pod:
		return o.ObjectMeta, o.Spec
	case *apps.DaemonSet:
		o.ObjectMeta.Labels = o.Spec.Template.Labels
		return o.ObjectMeta, o.Spec.Template.Spec
	}
	t.Fatalf("%s: a %T has no pod", name, all[0])
	return meta.ObjectMeta{}, core.PodSpec{}
}

// scheduled is a pod as the kubelet gets it: an API server fills in what a manifest leaves
// out, and a scheduler names the node.
func scheduled(name, namespace string, labels map[string]string, spec core.PodSpec) *core.Pod {
	spec = *spec.DeepCopy()
	spec.NodeName, spec.DNSPolicy, spec.SecurityContext = "node", core.DNSDefault, &core.PodSecurityContext{}
	spec.SchedulerName, spec.TerminationGracePeriodSeconds = "default-scheduler", new(int64)
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = core.RestartPolicyAlways
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		c.ImagePullPolicy, c.TerminationMessagePath, c.TerminationMessagePolicy = core.PullNever, "/dev/termination-log", core.TerminationMessageReadFile
		if c.Resources.Requests == nil {
			c.Resources.Requests = c.Resources.Limits
		}
	}
	return &core.Pod{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta.ObjectMeta{Name: name, Namespace: namespace, Labels: labels, UID: types.UID("7f3c1c52-0000-4000-8000-" + fmt.Sprintf("%x", sha256.Sum256([]byte(namespace+"/"+name)))[:12])},
		Spec:       spec,
	}
}

// service is a service of a cluster, which has an address.
func service(name, namespace, address string, port int32) *core.Service {
	return &core.Service{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       core.ServiceSpec{ClusterIP: address, ClusterIPs: []string{address}, Type: core.ServiceTypeClusterIP, Ports: []core.ServicePort{{Name: map[int32]string{443: "https"}[port], Port: port, Protocol: core.ProtocolTCP}}},
	}
}

// containers are those of the pod with this name.
func (n *node) containers(pod string) []*cri.Container {
	n.Helper()
	all, err := n.runtime.ListContainers(n.Context(), &cri.ListContainersRequest{
		Filter: &cri.ContainerFilter{LabelSelector: map[string]string{"io.kubernetes.pod.name": pod}}})
	if err != nil {
		n.Fatal(err)
	}
	return all.Containers
}

// printedBy is what a pod's container has printed, whose end is waited for.
func (n *node) printedBy(pod string) string {
	n.Helper()
	var at *cri.ContainerStatus
	n.wait(pod+" doesn't end", func() bool {
		for _, c := range n.containers(pod) {
			s, err := n.runtime.ContainerStatus(n.Context(), &cri.ContainerStatusRequest{ContainerId: c.Id})
			if err == nil && s.Status.State == cri.ContainerState_CONTAINER_EXITED {
				at = s.Status
				return true
			}
		}
		return false
	})
	log, err := os.ReadFile(at.LogPath)
	if err != nil || at.ExitCode != 0 {
		n.Fatalf("%s: %d, %v: %s", pod, at.ExitCode, err, log)
	}
	return printed(string(log))
}

// evidence is what this test reads of a pod's evidence.
type evidence struct {
	Claims struct {
		Container struct {
			Pod          map[string]string
			Image        string
			Assurance    struct{ Start string }
			LaunchDigest string `json:"launch_digest"`
		}
	}
}

// A kubelet runs the DaemonSet's pod, whose plug-in registers with it. A pod that asks for
// the device gets the directory, and evidence that names the pod; so does one that mounts
// it, with the same launch digest, which cimactl predicts. Services of the namespace change
// it only where the pod has links to them. After a restart of the kubelet the device is
// there again.
func TestKubelet(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	if err := os.MkdirAll(n.cni, 0o755); err != nil {
		t.Fatal(err)
	}
	cluster, url := newAPI(t)
	config, access := filepath.Join(dir, "kubelet.yaml"), filepath.Join(dir, "kubeconfig")
	for at, text := range map[string]string{
		config: kubeletConfig, access: fmt.Sprintf(kubeconfig, url),
		filepath.Join(n.cni, "none"): plugins, filepath.Join(n.cni, "loopback"): plugins, filepath.Join(n.cni, "10-none.conflist"): network,
	} {
		if err := os.WriteFile(at, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cimactl, sim := build(t, dir, "cimactl", "./rpc/cimactl"), build(t, dir, "cimad-sim", "./daemon/cimad-sim")
	archive := n.publish(dir, tool, cimactl)
	must(t, exec.Command("env", "CGO_ENABLED=0", "go", "build", "-C", "../../kubernetes/plugin", "-trimpath", "-o", filepath.Join(dir, "plugin"), "."))
	n.publish(dir, "registry.example/cima-device-plugin:1", filepath.Join(dir, "plugin"))
	agent(t, sim, "")

	cluster.keep(t, "services", service("kubernetes", "default", "10.96.0.1", 443))
	end := n.start(config, access)
	about, plugin := manifest(t, "daemonset.yaml")
	cluster.keep(t, "pods", scheduled(about.Name, about.Namespace, about.Labels, plugin))
	n.wait("the plug-in doesn't register", func() bool {
		text, err := os.ReadFile(known)
		return err == nil && bytes.Contains(text, []byte(resource)) && bytes.Contains(text, []byte("agent-0"))
	})

	_, asks := manifest(t, "pod-restricted.yaml")
	asks.Containers[0].Args = []string{"evidence", "--nonce", "00112233445566778899aabbccddeeff"}
	_, example := manifest(t, "pod.yaml")
	mounts := *asks.DeepCopy()
	c := &mounts.Containers[0]
	c.Resources, c.Env, c.VolumeMounts = core.ResourceRequirements{}, example.Containers[0].Env, example.Containers[0].VolumeMounts[:1]
	mounts.Volumes = example.Volumes[:1]
	run := func(name, namespace string, spec core.PodSpec) string {
		t.Helper()
		pod := scheduled(name, namespace, nil, spec)
		cluster.keep(t, "pods", pod)
		var e evidence
		if text := n.printedBy(name); json.Unmarshal([]byte(text), &e) != nil {
			t.Fatalf("%.300s", text)
		}
		of := e.Claims.Container
		want := map[string]string{"name": name, "namespace": namespace, "uid": string(pod.UID), "container": "app"}
		if !maps.Equal(of.Pod, want) || of.Image != tool || of.Assurance.Start != "gated" || of.LaunchDigest == "" {
			t.Errorf("%+v, want %v", of, want)
		}
		t.Logf("%s: %v, launch %.16s", name, of.Pod, of.LaunchDigest)
		return of.LaunchDigest
	}
	predicted := func(spec core.PodSpec) string {
		t.Helper()
		text, err := json.Marshal(scheduled("any", "any", nil, spec))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "pod.json")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		var said struct {
			Digest string `json:"launch_digest"`
		}
		if err := json.Unmarshal(must(t, exec.Command(cimactl, "predict", "--pod", file, "--image", archive, "--lsm", "none", "--json")), &said); err != nil {
			t.Fatal(err)
		}
		return said.Digest
	}
	digests := []string{run("asks", "shop", asks), run("mounts", "prod", mounts), predicted(mounts)}

	linked := *asks.DeepCopy()
	*linked.EnableServiceLinks = true // the default
	links := []string{run("linked", "shop", linked)}
	cluster.keep(t, "services", service("db", "shop", "10.96.0.9", 5432))
	time.Sleep(2 * time.Second) // the kubelet hears of it
	digests = append(digests, run("beside", "shop", asks))
	links = append(links, run("linked-db", "shop", linked), run("linked-elsewhere", "prod", linked))
	if links[0] != digests[0] || links[1] == links[0] || links[2] != links[0] {
		t.Errorf("with links to services: none, db, none in this namespace: %q", links)
	}

	end()
	n.start(config, access)
	n.wait("the plug-in doesn't register again", func() bool { return n.registeredAgain() })
	digests = append(digests, run("again", "shop", asks))
	if len(slices.Compact(slices.Clone(digests))) != 1 {
		t.Errorf("asked, mounted, predicted, beside a service, after a restart: %q", digests)
	}

	// The plug-in writes into a directory of the host's, and everybody's evidence says so.
	var status struct{ Power []string }
	out := must(t, exec.Command(cimactl, "status", "--json"))
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatal(err)
	}
	others := slices.DeleteFunc(slices.Clone(status.Power), func(class string) bool { return class == "host-write:/var" || class == "special-file:/var" })
	if !slices.Contains(status.Power, "host-write:/var") || len(others) > 0 {
		t.Errorf("classes of power: %s", out)
	}
}

// registeredAgain is whether the plug-in has noticed that the kubelet started again, and has
// registered since.
func (n *node) registeredAgain() bool {
	n.Helper()
	for _, c := range n.containers("cima-device-plugin") {
		s, err := n.runtime.ContainerStatus(n.Context(), &cri.ContainerStatusRequest{ContainerId: c.Id})
		if err != nil {
			return false
		}
		log, err := os.ReadFile(s.Status.LogPath)
		if i := bytes.LastIndex(log, []byte("the kubelet has started again")); err == nil && i >= 0 && bytes.Contains(log[i:], []byte("registered")) {
			return true
		}
	}
	return false
}
