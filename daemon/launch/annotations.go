package launch

import (
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

// annotations separates those that engines write by themselves, and on which no runtime
// acts, from those that were asked for.
func (n *normaliser) annotations(a *Asked, d *Defaults) {
	a.Labels = n.rules.Choose(n.c.Annotations)
	a.Annotations, d.Annotations = map[string]Text{}, map[string]Text{}
	for name, value := range n.c.Annotations {
		switch {
		case n.saysOfInstance(name):
		case n.writtenByEngine(name, value):
			d.Annotations[name] = withoutID(value, n.id)
		default:
			a.Annotations[name] = withoutID(value, n.id)
		}
	}
}

// saysOfInstance reports whether an engine wrote an annotation that differs from run to
// run: a time, ids, a pod's name, the file that its client wrote the id to.
func (n *normaliser) saysOfInstance(name string) bool {
	switch {
	case n.c.runtime == "podman" || n.c.runtime == "cri-o":
		return name == "io.container.manager" || name == "io.kubernetes.cri-o.Created" || name == "io.kubernetes.cri-o.SandboxID" ||
			name == "io.podman.annotations.cid-file" ||
			n.pod && strings.HasPrefix(name, "io.kubernetes.")
	case n.pod:
		return strings.HasPrefix(name, "io.kubernetes.")
	}
	return false
}

// writtenByEngine reports whether podman writes an annotation by itself. Those that systemd
// acts on (podman 5) are an engine's as exact pairs alone.
func (n *normaliser) writtenByEngine(name string, value Text) bool {
	switch name {
	case "org.systemd.property.KillSignal":
		return n.c.runtime == "podman" && value == "15"
	case "org.systemd.property.TimeoutStopUSec":
		return n.c.runtime == "podman" && value == "uint64 10000000"
	case "io.kubernetes.cri-o.TTY", "io.kubernetes.cri-o.ContainerType":
		return n.c.runtime == "podman"
	}
	return n.c.runtime == "podman" && (strings.HasPrefix(name, "io.podman.annotations.") || strings.HasPrefix(name, "org.opencontainers.image."))
}

// managed returns the engine or runtime that made a bundle. Podman and cri-o keep
// theirs in the same directories. Anybody may give the annotation, but the engine
// names the cgroup.
func managed(c *Spec, runtime string) string {
	manager := c.Annotation("io.container.manager")
	before := strings.TrimSuffix(c.Linux.CgroupsPath, c.ID()) // a user of podman chooses the parent alone
	switch {
	case runtime != "podman" && runtime != "":
		return runtime
	case manager == "cri-o" && (strings.HasSuffix(before, "/crio-") || strings.HasSuffix(before, ":crio:")):
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
