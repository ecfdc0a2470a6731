// Package power answers: could a container act as root of the guest?
//
// Of notes, when a bundle is read, what it shows: capabilities, devices, namespaces,
// mounts. Judge looks, when the container is launched, at what the host has in the
// places that the bundle mounts, and names the classes of power
// (cima-evidence(7), RUNTIME LOG).
package power

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/cima-project/cima/daemon/launch"
)

// Classes of power (cima-evidence(7), RUNTIME LOG). Those that end in ":" are followed by
// what they are about.
const (
	classPrivileged       = "privileged"        // every device, and CAP_SYS_ADMIN
	classUnconfined       = "unconfined:"       // seccomp, apparmor, selinux, or paths: it may write /proc/sys, /proc/sysrq-trigger or the like
	classCapability       = "capability:"       // CAP_…, beyond docker's default set
	classDevice           = "device:"           // type:major:minor beyond the default ones; "*" is any
	classNamespace        = "namespace:"        // ipc, mount, network, pid or uts of the host, or a namespace that may be the host's
	classMount            = "mount:"            // may write this part of the host: /, /proc, /sys, /etc, …
	classEngineStorage    = "engine-storage"    // may write what an engine stores
	classUnresolvedMount  = "unresolved-mount"  // what it mounts of the host is unknown
	classReplaceableMount = "replaceable-mount" // somebody other than root can replace what it mounts before it is mounted
	classSocket           = "socket:"           // reaches the socket of something that acts for root
	classCgroupParent     = "cgroup-parent"     // lies in another container's cgroup
	classNoCgroup         = "no-cgroup"         // declares no cgroup of its own
	classAnnotation       = "annotation:"       // makes the runtime do, by an annotation, what the specification does not say
)

// NoMetadata is the class of a container of which nothing is known.
const NoMetadata = "no-metadata"

// Facts are what a bundle shows of a container's power. The zero value is that of a
// rootless engine's container, which runs with its user's rights and has no power.
type Facts struct {
	bundle *bundleFacts // shared by all copies
	cgroup []string     // classes that the container's cgroup shows
}

type bundleFacts struct {
	host    Host
	dir     string // of the bundle
	id      string // the container's
	sandbox string // id of the first container of its pod
	storage string // root of the engine's storage, "" where unknown
	classes []string
	joins   []join
	binds   []bind

	mu      sync.Mutex
	targets []bindTarget // of the binds when they were judged last, nil before
}

// Other is another container, which may change what a container mounts.
type Other struct {
	Facts Facts
	Begun bool // the container has a first process, so that its mounts are made
}

// Of returns what the bundle in dir shows of the container with this id.
func Of(h Host, c *launch.Spec, l launch.Launch, id, dir string) Facts {
	return Facts{bundle: &bundleFacts{
		host: h, dir: dir, id: id, sandbox: c.Sandbox(), storage: launch.StorageRoot(c.Root.Path),
		classes: specClasses(c, l), joins: joins(c), binds: binds(c, id, dir),
	}}
}

// InCgroup returns the facts with the classes that the container's cgroup path shows.
// isContainer reports whether an id is that of a container.
func (f Facts) InCgroup(cgroupPath string, isContainer func(id string) bool) Facts {
	if f.bundle == nil {
		return f
	}
	f.cgroup = nil
	if cgroupPath == "" {
		f.cgroup = append(f.cgroup, classNoCgroup)
	}
	for name := range strings.SplitSeq(path.Dir(cgroupPath), "/") {
		if id := launch.HexID(name); id != "" && id != f.bundle.id && id != f.bundle.sandbox && isContainer(id) {
			f.cgroup = append(f.cgroup, classCgroupParent)
		}
	}
	return f
}

// Judge returns, sorted, the classes by which a container could act as root of the
// guest. Cgroup and user namespaces of the host are no class: they are the
// default, and dangerous only together with a class.
//
// Mounts are judged now, by what the host has at their sources: by the path as given,
// by the path without symlinks, and by the file itself, which may be a part of the
// host (landmarks). Another mount of the same file system elsewhere on the host, below
// what is mounted, is not found. The source may change before the runtime mounts it;
// where somebody other than root can change it, that is a class itself.
//
// The function others lists the other containers; it is called where the container has
// mounts. An error says that ctx ended, or that they can't be listed.
func Judge(ctx context.Context, f Facts, others func(context.Context) ([]Other, error)) ([]string, error) {
	b := f.bundle
	if b == nil {
		return nil, ctx.Err()
	}
	out := slices.Concat(b.classes, f.cgroup)
	for _, j := range b.joins {
		if hosts, known := b.host.hostsNamespace(j); j.powerful() && (hosts || !known) {
			out = append(out, classNamespace+j.kind)
		}
	}
	if len(b.binds) == 0 {
		return distinct(out), ctx.Err()
	}
	mine := b.inspect()
	for _, m := range mine {
		out = append(out, m.classes...)
	}
	all, err := others(ctx)
	if err == nil && b.contested(mine, all) {
		out = append(out, classReplaceableMount)
	}
	return distinct(out), err
}

// defaultCapabilities are docker's, of which podman's and containerd's are a part.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

var powerfulNamespaces = []string{"ipc", "mount", "network", "pid", "uts"}

// specClasses returns the classes that the specification alone shows.
func specClasses(c *launch.Spec, l launch.Launch) []string {
	out := slices.Concat(capabilityClasses(c.Process.Capabilities), confinementClasses(c), annotationClasses(c), deviceClasses(c), mountClasses(c))
	if l.Asked.AllDevices && slices.Contains(out, classCapability+"CAP_SYS_ADMIN") {
		out = append(out, classPrivileged)
	}
	for _, t := range powerfulNamespaces {
		if l.Asked.Namespaces[t] == launch.NamespaceHost {
			out = append(out, classNamespace+t)
		}
	}
	return distinct(out)
}

func capabilityClasses(c launch.Capabilities) []string {
	var out []string
	for _, name := range slices.Concat(c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient) {
		if !slices.Contains(defaultCapabilities, name) {
			out = append(out, classCapability+name)
		}
	}
	return out
}

// confinementClasses reports what was switched off. Whether the host has AppArmor or
// SELinux is not in a bundle: where the host has neither, nothing is reported.
func confinementClasses(c *launch.Spec) []string {
	var out []string
	if len(c.Linux.Seccomp) == 0 || string(c.Linux.Seccomp) == "null" || allowsUnnamed(c) {
		out = append(out, classUnconfined+"seccomp")
	}
	if c.Process.AppArmorProfile == "unconfined" {
		out = append(out, classUnconfined+"apparmor")
	}
	if label := launch.SELinuxType(c.Process.SELinuxLabel); label == "spc_t" || strings.HasPrefix(label, "unconfined") || c.Annotation("io.podman.annotations.label") == "disable" {
		out = append(out, classUnconfined+"selinux")
	}
	for _, m := range c.Mounts {
		if m.Type != "proc" || launch.IsBind(m) || slices.Contains(launch.MountOptions(m.Options), "ro") {
			continue
		}
		for _, dangerous := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
			if path.Clean(string(m.Destination)) != "/proc" || !slices.Contains(c.Linux.ReadonlyPaths, launch.Text(dangerous)) && !slices.Contains(c.Linux.MaskedPaths, launch.Text(dangerous)) {
				out = append(out, classUnconfined+"paths")
			}
		}
	}
	return out
}

// harmless are annotations on which runtimes act and that give no power: what
// engines write by themselves, and what concerns the container alone.
var harmless = []string{
	"run.oci.keep_original_groups", "run.oci.mount_context_type", "run.oci.seccomp_fail_unknown_syscall", "run.oci.timens_offset",
	"org.systemd.property.After", "org.systemd.property.Before", "org.systemd.property.CollectMode",
	"org.systemd.property.DefaultDependencies", "org.systemd.property.Description", "org.systemd.property.KillSignal",
	"org.systemd.property.TimeoutStopUSec",
}

const ownSeccomp = "run.oci.seccomp_bpf_data" // replaces the specification's filter

// annotationClasses names the prefix alone: classes are public, and users may put
// anything into the name of an annotation.
func annotationClasses(c *launch.Spec) []string {
	var out []string
	for name := range c.Annotations {
		prefix, ok := launch.ActedOn(name)
		switch {
		case !ok, slices.Contains(harmless, name):
		case name == ownSeccomp:
			out = append(out, classUnconfined+"seccomp")
		default:
			out = append(out, classAnnotation+prefix+"*")
		}
	}
	return out
}

func deviceClasses(c *launch.Spec) []string {
	nodes, rules, all := c.DeviceAccess()
	if all {
		return []string{classDevice + "*"}
	}
	var out []string
	add := func(kind string, major, minor *launch.Integer) {
		number := func(n *launch.Integer) string {
			if n == nil {
				return "*"
			}
			return fmt.Sprint(*n)
		}
		out = append(out, classDevice+kind+":"+number(major)+":"+number(minor))
	}
	for _, d := range nodes {
		if !launch.UsualDevice(d) && (d.Type == "c" || d.Type == "u" || d.Type == "b") {
			add(strings.Replace(d.Type, "u", "c", 1), &d.Major, &d.Minor)
		}
	}
	for _, r := range rules {
		if r.Allow && r.Access != "m" { // to make a node is not to open it
			add(r.Type, r.Major, r.Minor)
		}
	}
	return out
}

// ownFileSystems are file systems of which each mount is a new one. The directory that
// an overlay writes to is judged as a bind (writableLayer).
var ownFileSystems = []string{"tmpfs", "ramfs", "devpts", "mqueue", "hugetlbfs", "overlay"}

// mountClasses are those of mounts that are no binds.
func mountClasses(c *launch.Spec) []string {
	var out []string
	for _, m := range c.Mounts {
		options := launch.MountOptions(m.Options)
		switch {
		case launch.IsBind(m), slices.Contains(options, "ro"), slices.Contains(options, "rro"):
		case m.Type == "sysfs":
			out = append(out, classMount+"/sys")
		case m.Type == "cgroup", m.Type == "cgroup2":
			if c.Namespaces()["cgroup"] == launch.NamespaceHost {
				out = append(out, classMount+"/sys/fs/cgroup")
			}
		case m.Type == "proc", slices.Contains(ownFileSystems, m.Type):
		case kernelTrees[m.Type] != "":
			out = append(out, classMount+kernelTrees[m.Type])
		default:
			out = append(out, classUnresolvedMount) // a disk, another machine
		}
	}
	return out
}

// allowsUnnamed reports whether a seccomp profile allows the calls that it does not name.
func allowsUnnamed(c *launch.Spec) bool {
	var profile struct {
		DefaultAction string `json:"defaultAction"`
	}
	err := json.Unmarshal(c.Linux.Seccomp, &profile)
	return err == nil && (profile.DefaultAction == "SCMP_ACT_ALLOW" || profile.DefaultAction == "SCMP_ACT_LOG")
}

// distinct returns a sorted copy without duplicates.
func distinct(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
