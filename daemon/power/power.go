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

// Classes of power. Those that end in ":" are followed by what they are about.
const (
	Privileged       = "privileged"        // every device, and CAP_SYS_ADMIN
	Unconfined       = "unconfined:"       // seccomp, apparmor, selinux, or paths: nothing keeps it from writing /proc/sys, /proc/sysrq-trigger or the like
	Capability       = "capability:"       // CAP_…, beyond docker's default set
	Device           = "device:"           // type:major:minor beyond the default ones; "*" is any
	Namespace        = "namespace:"        // ipc, mount, network, pid or uts of the host, or one that can't be told from it
	Mount            = "mount:"            // may write this part of the host: /, /proc, /sys, /etc, …
	EngineStorage    = "engine-storage"    // may write what an engine keeps
	UnresolvedMount  = "unresolved-mount"  // what it mounts of the host can't be told
	ReplaceableMount = "replaceable-mount" // others than root can change what it mounts until it is mounted
	Socket           = "socket:"           // reaches the socket of something that acts for root
	CgroupParent     = "cgroup-parent"     // lies in another container's cgroup
	NoCgroup         = "no-cgroup"         // declares no cgroup of its own
	Annotation       = "annotation:"       // has the runtime do, by an annotation, what the specification doesn't say
	NoMetadata       = "no-metadata"       // nothing is known of it
)

// Facts are what a bundle shows of a container's power. The zero value is that of a
// rootless engine's container, which is its user's and has none.
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
	targets []bindTarget // what the binds led to when they were judged last, nil before
}

// Other is another container, which may change what a container mounts.
type Other struct {
	Facts Facts
	Begun bool // it has a first process: it has mounted what it mounts
}

// Of returns what the bundle of a container shows, which lies in dir.
func Of(h Host, c *launch.Spec, l launch.Launch, id, dir string) Facts {
	return Facts{bundle: &bundleFacts{
		host: h, dir: dir, id: id, sandbox: c.Sandbox(), storage: launch.StorageRoot(c.Root.Path),
		classes: powers(c, l), joins: joins(c), binds: binds(c, id, dir),
	}}
}

// InCgroup adds the classes that a container's cgroup path shows. isContainer
// reports whether an id is that of some container.
func (f Facts) InCgroup(cgroupPath string, isContainer func(id string) bool) Facts {
	if f.bundle == nil {
		return f
	}
	f.cgroup = nil
	if cgroupPath == "" {
		f.cgroup = append(f.cgroup, NoCgroup)
	}
	for name := range strings.SplitSeq(path.Dir(cgroupPath), "/") {
		if id := launch.HexID(name); id != "" && id != f.bundle.id && id != f.bundle.sandbox && isContainer(id) {
			f.cgroup = append(f.cgroup, CgroupParent)
		}
	}
	return f
}

// Judge returns, sorted, the classes by which a container could act as root of the
// guest. Cgroup and user namespaces of the host are no class: they are the
// default, and dangerous only together with a class.
//
// What is mounted is judged now, by what the host has at its path: as given,
// without symlinks, and by being the same file as one of the table. Another mount
// of the same file system elsewhere on the host, below what is mounted, is not
// found. Between now and the runtime's mounting somebody may change what is
// there; where somebody other than root may, that is a class itself.
//
// Others lists the other containers, where the container has mounts. An error says
// that ctx ended, or that they can't be listed.
func Judge(ctx context.Context, f Facts, others func(context.Context) ([]Other, error)) ([]string, error) {
	b := f.bundle
	if b == nil {
		return nil, ctx.Err()
	}
	out := slices.Concat(b.classes, f.cgroup)
	for _, j := range b.joins {
		if hosts, known := b.host.hostsNamespace(j); j.gives() && (hosts || !known) {
			out = append(out, Namespace+j.kind)
		}
	}
	if len(b.binds) == 0 {
		return distinct(out), ctx.Err()
	}
	mine := b.inspect()
	for _, m := range mine {
		out = append(out, m.powers...)
	}
	all, err := others(ctx)
	if err == nil && b.contested(mine, all) {
		out = append(out, ReplaceableMount)
	}
	return distinct(out), err
}

// defaultCapabilities are docker's; podman's and containerd's are a part of them.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

var powerfulNamespaces = []string{"ipc", "mount", "network", "pid", "uts"}

// powers judges a container by its specification alone.
func powers(c *launch.Spec, l launch.Launch) []string {
	out := slices.Concat(capabilityPowers(l.Capabilities), confinementPowers(c, l), annotationPowers(l), devicePowers(l), mountPowers(c, l))
	if l.AllDevices && slices.Contains(out, Capability+"CAP_SYS_ADMIN") {
		out = append(out, Privileged)
	}
	for _, t := range powerfulNamespaces {
		if l.Namespaces[t] == launch.NamespaceHost {
			out = append(out, Namespace+t)
		}
	}
	return distinct(out)
}

func capabilityPowers(c launch.Capabilities) []string {
	var out []string
	for _, name := range slices.Concat(c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient) {
		if !slices.Contains(defaultCapabilities, name) {
			out = append(out, Capability+name)
		}
	}
	return out
}

// confinementPowers reports what was switched off. Where the host has neither
// AppArmor nor SELinux nothing says so in a bundle, and nothing is reported.
func confinementPowers(c *launch.Spec, l launch.Launch) []string {
	var out []string
	if l.Seccomp == "unconfined" || allowsUnnamed(c) {
		out = append(out, Unconfined+"seccomp")
	}
	if l.AppArmor == "unconfined" {
		out = append(out, Unconfined+"apparmor")
	}
	if l.SELinux == "spc_t" || strings.HasPrefix(l.SELinux, "unconfined") || c.Annotation("io.podman.annotations.label") == "disable" {
		out = append(out, Unconfined+"selinux")
	}
	for _, m := range l.Mounts {
		if m.Type != "proc" || slices.Contains(m.Options, "ro") {
			continue
		}
		for _, dangerous := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
			if path.Clean(string(m.Destination)) != "/proc" || !slices.Contains(l.ReadOnlyPaths, launch.Text(dangerous)) && !slices.Contains(l.MaskedPaths, launch.Text(dangerous)) {
				out = append(out, Unconfined+"paths")
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

const ownSeccomp = "run.oci.seccomp_bpf_data" // in the place of the specification's filter

// annotationPowers names the prefix alone: classes are public, and anybody may choose
// a name.
func annotationPowers(l launch.Launch) []string {
	var out []string
	for name := range l.Annotations {
		prefix, ok := launch.ActedOn(name)
		switch {
		case !ok, slices.Contains(harmless, name):
		case name == ownSeccomp:
			out = append(out, Unconfined+"seccomp")
		default:
			out = append(out, Annotation+prefix+"*")
		}
	}
	return out
}

func devicePowers(l launch.Launch) []string {
	if l.AllDevices {
		return []string{Device + "*"}
	}
	var out []string
	add := func(kind string, major, minor *int64) {
		number := func(n *int64) string {
			if n == nil {
				return "*"
			}
			return fmt.Sprint(*n)
		}
		out = append(out, Device+kind+":"+number(major)+":"+number(minor))
	}
	for _, d := range l.Devices {
		if !launch.UsualDevice(d) && (d.Type == "c" || d.Type == "u" || d.Type == "b") {
			add(strings.Replace(d.Type, "u", "c", 1), &d.Major, &d.Minor)
		}
	}
	for _, r := range l.DeviceRules {
		if r.Allow && r.Access != "m" { // making a node is not opening it
			add(r.Type, r.Major, r.Minor)
		}
	}
	return out
}

// ownKinds are file systems of which a container gets one of its own. What an
// overlay writes to is looked at as what is bound.
var ownKinds = []string{"tmpfs", "ramfs", "devpts", "mqueue", "hugetlbfs", "overlay"}

// mountPowers are those of mounts that come from no path of the host.
func mountPowers(c *launch.Spec, l launch.Launch) []string {
	var out []string
	for _, m := range c.Mounts {
		options := launch.MountOptions(m.Options)
		switch {
		case launch.IsBind(m), slices.Contains(options, "ro"), slices.Contains(options, "rro"):
		case m.Type == "sysfs":
			out = append(out, Mount+"/sys")
		case m.Type == "cgroup", m.Type == "cgroup2":
			if l.Namespaces["cgroup"] == launch.NamespaceHost {
				out = append(out, Mount+"/sys/fs/cgroup")
			}
		case m.Type == "proc", slices.Contains(ownKinds, m.Type):
		case kernelTrees[m.Type] != "":
			out = append(out, Mount+kernelTrees[m.Type])
		default:
			out = append(out, UnresolvedMount) // a disk, another machine
		}
	}
	return out
}

// allowsUnnamed says that a seccomp profile allows what it doesn't name.
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
