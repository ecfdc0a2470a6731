package launch

import (
	"slices"
	"testing"
)

// Who runs a container of docker's or podman's may give it any annotation. What
// a kubelet's runtime says in annotations is believed of such a runtime alone.
func TestAnnotationsOfAPod(t *testing.T) {
	const storage = "/var/lib/docker/overlay2"
	pretends := func(c map[string]any) {
		set("annotations", map[string]any{
			"io.container.manager": "cri-o", "io.kubernetes.pod.uid": "overlay2", "io.kubernetes.pod.name": "victim",
			"io.kubernetes.cri.sandbox-id": id(1), "io.kubernetes.cri.image-name": "victim",
		})(c)
		add("mounts", mount("/x", "bind", storage, "rbind"))(c)
		add("mounts", mount("/y", "bind", "/srv/"+id(1), "rbind"))(c)
	}
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.bundle("moby", id(2), "/docker/"+id(1)+"/"+id(2), pretends)
	podman := config(t, "podman")
	set("linux.cgroupsPath", "/docker/"+id(1)+"/libpod-"+id(3))(podman)
	pretends(podman)
	x.write("storage/overlay-containers/"+id(3)+"/userdata/config.json", encode(t, podman))
	for n, runtime := range map[int]string{2: "docker", 3: "podman"} {
		r := x.list()[id(n)]
		if r.Err != nil || r.Runtime != runtime || r.Pod != (Pod{}) {
			t.Errorf("%s: %q, %+v, %v", runtime, r.Runtime, r.Pod, r.Err)
		}
		for _, m := range r.Launch.Mounts {
			if m.Engine && (m.Destination == "/x" || m.Destination == "/y") {
				t.Errorf("%s: an annotation makes a mount the engine's: %+v", runtime, m)
			}
		}
		for _, class := range []string{PowerStorage, PowerCgroupParent, PowerUnresolved} {
			if power := powerOf(t, x.store, r); !slices.Contains(power, class) {
				t.Errorf("%s: %v lacks %s", runtime, power, class)
			}
		}
	}
	x.bundle("k8s.io", id(4), "kubepods-podx.slice:cri-containerd:"+id(4), pretends)
	crio := config(t, "podman")
	set("linux.cgroupsPath", "kubepods-podx.slice:crio:"+id(5))(crio)
	pretends(crio)
	x.write("storage/overlay-containers/"+id(5)+"/userdata/config.json", encode(t, crio))
	for n, runtime := range map[int]string{4: "containerd", 5: "cri-o"} {
		if r := x.list()[id(n)]; r.Runtime != runtime || r.Pod.Name != "victim" || r.Pod.UID != "overlay2" {
			t.Errorf("%s: %q, %+v", runtime, r.Runtime, r.Pod)
		}
	}
}

// Docker's own hook is docker's alone: podman's are whoever's.
func TestHookLikeDockers(t *testing.T) {
	hook := set("hooks", map[string]any{"prestart": []any{map[string]any{
		"path": "/proc/4406/exe", "args": []any{"libnetwork-setkey", "-exec-root=/var/run/docker", id(1), "x"},
	}}})
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1), hook)
	podman := config(t, "podman")
	hook(podman)
	x.write("storage/overlay-containers/"+id(2)+"/userdata/config.json", encode(t, podman))
	all := x.list()
	if hooks := all[id(1)].Launch.Hooks; len(hooks) != 0 {
		t.Errorf("docker's hook is shown: %v", hooks)
	}
	if hooks := all[id(2)].Launch.Hooks; len(hooks) != 1 {
		t.Errorf("a hook of podman's is hidden: %v", hooks)
	}
	if hooks := launchOf(t, podman).Hooks; len(hooks) != 1 {
		t.Errorf("a hook of podman's isn't predicted: %v", hooks)
	}
}

// What an annotation tells a runtime to do counts as what the specification does.
func TestAnnotationsForRuntimes(t *testing.T) {
	base := digestOf(t, launchOf(t, config(t, "podman")), Image{})
	for name, power := range map[string]string{
		"run.oci.seccomp_bpf_data":             "unconfined:seccomp",
		"run.oci.seccomp.plugins":              "annotation:run.oci.*",
		"run.oci.seccomp.receiver":             "annotation:run.oci.*",
		"run.oci.hooks.stdout":                 "annotation:run.oci.*",
		"run.oci.hooks.stderr":                 "annotation:run.oci.*",
		"run.oci.systemd.force_cgroup_v1":      "annotation:run.oci.*",
		"run.oci.handler":                      "annotation:run.oci.*",
		"run.oci.of.tomorrow":                  "annotation:run.oci.*",
		"org.systemd.property.DeviceAllow":     "annotation:org.systemd.property.*",
		"org.criu.config":                      "annotation:org.criu.*",
		"module.wasm.image/variant":            "annotation:module.wasm.*",
		"run.oci.systemd.subgroup":             "annotation:run.oci.*",
		"run.oci.keep_original_groups":         "",
		"run.oci.mount_context_type":           "",
		"run.oci.timens_offset":                "",
		"org.systemd.property.KillSignal":      "",
		"org.systemd.property.TimeoutStopUSec": "",
	} {
		c := config(t, "podman")
		c["annotations"].(map[string]any)[name] = "x"
		l := launchOf(t, c)
		if digestOf(t, l, Image{}) == base {
			t.Errorf("%s changes no digest", name)
		}
		x := newTree(t)
		x.host()
		x.write("storage/overlay-containers/"+id(1)+"/userdata/config.json", encode(t, c))
		if got := powerOf(t, x.store, x.list()[id(1)]); power == "" && len(got) > 0 || power != "" && !slices.Equal(got, []string{power}) {
			t.Errorf("%s: %v, not %q", name, got, power)
		}
	}
}
