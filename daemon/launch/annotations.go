package launch

import (
	"path"
	"slices"
	"strings"
)

// actedOn begin the names of annotations that a runtime acts on, besides what the
// specification says: crun(1), "Extensions to OCI"; runc docs/systemd.md and
// its checkpoints (criu); gVisor's and Kata's. Engines let anybody give them, and
// podman takes them from images, too.
var actedOn = []string{"run.oci.", "module.wasm.", "krun.", "org.systemd.property.", "org.criu.", "dev.gvisor.", "io.katacontainers."}

// ActedOn reports whether a runtime acts on an annotation, and the prefix by which
// it is known.
func ActedOn(name string) (prefix string, ok bool) {
	i := slices.IndexFunc(actedOn, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	if i < 0 {
		return "", false
	}
	return actedOn[i], true
}

// runtimeAnnotations returns the annotations that the runtime acts on.
func runtimeAnnotations(c *Spec, id string) map[string]Text {
	out := map[string]Text{}
	for name, value := range c.Annotations {
		if _, ok := ActedOn(name); ok {
			out[name] = withoutID(value, id)
		}
	}
	return out
}

// managed returns the engine or runtime that made a bundle. Podman and cri-o keep
// theirs in the same directories. Anybody may give the annotation, but the engine
// names the cgroup.
func managed(c *Spec, runtime string) string {
	manager := c.Annotation("io.container.manager")
	last := path.Base(strings.ReplaceAll(c.Linux.CgroupsPath, ":", "-"))
	switch {
	case runtime != "podman" && runtime != "":
		return runtime
	case manager == "cri-o" && (strings.HasPrefix(last, "crio-") || strings.Contains(last, ".slice-crio-")):
		return "cri-o"
	case manager == "libpod":
		return "podman"
	}
	return runtime
}

// ofPod reports whether a kubelet's runtime wrote the annotations about a pod. Users
// of docker and podman may give any annotation. Those of a configuration alone, whose
// runtime isn't known, are believed.
func (c *Spec) ofPod() bool { return c.runtime != "docker" && c.runtime != "podman" }
