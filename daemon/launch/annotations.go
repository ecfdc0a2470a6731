package launch

import (
	"path"
	"slices"
	"strings"
)

// actedOn begin the names of annotations that a runtime acts on, beside what the
// specification says: crun(1), "Extensions to OCI"; runc docs/systemd.md and
// its checkpoints (criu); gVisor's and Kata's. Engines let anybody give them, and
// podman takes them from images, too.
var actedOn = []string{"run.oci.", "module.wasm.", "krun.", "org.systemd.property.", "org.criu.", "dev.gvisor.", "io.katacontainers."}

// harmless are those of them that give no power: what engines say by themselves,
// and what concerns the container alone.
var harmless = []string{
	"run.oci.keep_original_groups", "run.oci.mount_context_type", "run.oci.seccomp_fail_unknown_syscall", "run.oci.timens_offset",
	"org.systemd.property.After", "org.systemd.property.Before", "org.systemd.property.CollectMode",
	"org.systemd.property.DefaultDependencies", "org.systemd.property.Description", "org.systemd.property.KillSignal",
	"org.systemd.property.TimeoutStopUSec",
}

const ownSeccomp = "run.oci.seccomp_bpf_data" // in the place of the specification's filter

// runtimeAnnotations are those that the runtime acts on.
func runtimeAnnotations(c *spec, id string) map[string]Text {
	out := map[string]Text{}
	for name, value := range c.Annotations {
		if slices.ContainsFunc(actedOn, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			out[name] = withoutID(value, id)
		}
	}
	return out
}

// annotationPowers names the kind alone: classes are public, and names anybody's.
func annotationPowers(l Launch) []string {
	var out []string
	for name := range l.Annotations {
		for _, prefix := range actedOn {
			switch {
			case !strings.HasPrefix(name, prefix), slices.Contains(harmless, name):
			case name == ownSeccomp:
				out = append(out, PowerUnconfined+"seccomp")
			default:
				out = append(out, PowerAnnotation+prefix+"*")
			}
		}
	}
	return out
}

// managed says whose bundle it is, of an engine that shares its places with another.
// The annotation alone could be anybody's, the name of the cgroup is the engine's.
func managed(c *spec, runtime string) string {
	manager := c.annotation("io.container.manager")
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

// ofPod says that annotations tell of a pod, since no user's could: those that
// run containers by docker or podman give them any. A configuration alone, whose
// runtime isn't known, is taken at its word.
func (c *spec) ofPod() bool { return c.runtime != "docker" && c.runtime != "podman" }
