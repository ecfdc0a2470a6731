package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Classes of power. Those that end in ":" are followed by what they are about.
const (
	PowerPrivileged   = "privileged"        // every device, and CAP_SYS_ADMIN
	PowerUnconfined   = "unconfined:"       // seccomp, apparmor, selinux, or paths: nothing keeps it from writing /proc/sys, /proc/sysrq-trigger or the like
	PowerCapability   = "capability:"       // CAP_…, beyond docker's default set
	PowerDevice       = "device:"           // type:major:minor beyond the default ones; "*" is any
	PowerNamespace    = "namespace:"        // ipc, mount, network, pid or uts of the host, or one that can't be told from it
	PowerMount        = "mount:"            // may write this part of the host: /, /proc, /sys, /etc, …
	PowerStorage      = "engine-storage"    // may write what an engine keeps
	PowerUnresolved   = "unresolved-mount"  // what it mounts of the host can't be told
	PowerReplaceable  = "replaceable-mount" // others than root can change what it mounts until it is mounted
	PowerSocket       = "socket:"           // reaches the socket of something that acts for root
	PowerCgroupParent = "cgroup-parent"     // lies in another container's cgroup
	PowerNoCgroup     = "no-cgroup"         // declares no cgroup of its own
	PowerAnnotation   = "annotation:"       // has the runtime do, by an annotation, what the specification doesn't say
	PowerNoMetadata   = "no-metadata"       // nothing is known of it
)

// Power returns, sorted, the classes by which a container could act as root of
// the guest. Cgroup and user namespaces of the host are no class: they are the
// default, and dangerous only with a class that is. A rootless engine's
// container is its user's and has none.
//
// What is mounted is judged now, by what the host has at its path: as given,
// without symlinks, and by being the same file as one of the table. Another
// mount of the same file system elsewhere on the host, below what is mounted, is
// not found out. Between now and the runtime's mounting somebody may change
// what is there; where that need not be root it is a class itself.
//
// An error says that ctx ended, or that other containers can't be listed.
func (s *Store) Power(ctx context.Context, r Record) ([]string, error) {
	if r.Err != nil || r.Launch.Source == SourceNone || r.Launch.Source == "" {
		return []string{PowerNoMetadata}, nil
	}
	out := slices.Clone(r.power)
	for _, j := range r.joins {
		if hosts, told := s.host().hostsNamespace(j); j.gives() && (hosts || !told) {
			out = append(out, PowerNamespace+j.kind)
		}
	}
	if len(r.binds) == 0 {
		return sorted(out), ctx.Err()
	}
	mine := s.look(r)
	for _, m := range mine {
		out = append(out, m.powers...)
	}
	contested, err := s.contested(ctx, r, mine)
	if contested {
		out = append(out, PowerReplaceable)
	}
	return sorted(out), err
}

// defaultCapabilities are docker's; podman's and containerd's are a part of them.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

var powerfulNamespaces = []string{"ipc", "mount", "network", "pid", "uts"}

// powers judges a container by its specification alone.
func powers(c *spec, l Launch) []string {
	out := slices.Concat(capabilityPowers(l.Capabilities), confinementPowers(c, l), annotationPowers(l), devicePowers(l), mountPowers(c, l))
	if l.AllDevices && slices.Contains(out, PowerCapability+"CAP_SYS_ADMIN") {
		out = append(out, PowerPrivileged)
	}
	for _, t := range powerfulNamespaces {
		if l.Namespaces[t] == host {
			out = append(out, PowerNamespace+t)
		}
	}
	return sorted(out)
}

func capabilityPowers(c Capabilities) []string {
	var out []string
	for _, name := range slices.Concat(c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient) {
		if !slices.Contains(defaultCapabilities, name) {
			out = append(out, PowerCapability+name)
		}
	}
	return out
}

// confinementPowers reports what was switched off. Where the host has neither
// AppArmor nor SELinux nothing says so in a bundle, and nothing is reported.
func confinementPowers(c *spec, l Launch) []string {
	var out []string
	if l.Seccomp == "unconfined" || allowsUnnamed(c) {
		out = append(out, PowerUnconfined+"seccomp")
	}
	if l.AppArmor == "unconfined" {
		out = append(out, PowerUnconfined+"apparmor")
	}
	if l.SELinux == "spc_t" || strings.HasPrefix(l.SELinux, "unconfined") || c.annotation("io.podman.annotations.label") == "disable" {
		out = append(out, PowerUnconfined+"selinux")
	}
	for _, m := range l.Mounts {
		if m.Type != "proc" || slices.Contains(m.Options, "ro") {
			continue
		}
		for _, dangerous := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
			if path.Clean(string(m.Destination)) != "/proc" || !slices.Contains(l.ReadOnlyPaths, Text(dangerous)) && !slices.Contains(l.MaskedPaths, Text(dangerous)) {
				out = append(out, PowerUnconfined+"paths")
			}
		}
	}
	return out
}

func devicePowers(l Launch) []string {
	if l.AllDevices {
		return []string{PowerDevice + "*"}
	}
	var out []string
	add := func(kind string, major, minor *int64) {
		number := func(n *int64) string {
			if n == nil {
				return "*"
			}
			return fmt.Sprint(*n)
		}
		out = append(out, PowerDevice+kind+":"+number(major)+":"+number(minor))
	}
	for _, d := range l.Devices {
		usual := slices.ContainsFunc(defaultRules, func(r DeviceRule) bool {
			return r.Allow && r.Type == d.Type && r.Major != nil && *r.Major == d.Major && (r.Minor == nil || *r.Minor == d.Minor)
		})
		if !usual && (d.Type == "c" || d.Type == "u" || d.Type == "b") {
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
func mountPowers(c *spec, l Launch) []string {
	var out []string
	for _, m := range c.Mounts {
		options := mountOptions(m.Options)
		switch {
		case isBind(m), slices.Contains(options, "ro"), slices.Contains(options, "rro"):
		case m.Type == "sysfs":
			out = append(out, PowerMount+"/sys")
		case m.Type == "cgroup", m.Type == "cgroup2":
			if l.Namespaces["cgroup"] == host {
				out = append(out, PowerMount+"/sys/fs/cgroup")
			}
		case m.Type == "proc", slices.Contains(ownKinds, m.Type):
		case kernelTrees[m.Type] != "":
			out = append(out, PowerMount+kernelTrees[m.Type])
		default:
			out = append(out, PowerUnresolved) // a disk, another machine
		}
	}
	return out
}

// allowsUnnamed says that a seccomp profile allows what it doesn't name.
func allowsUnnamed(c *spec) bool {
	var profile struct {
		DefaultAction string `json:"defaultAction"`
	}
	err := json.Unmarshal(c.Linux.Seccomp, &profile)
	return err == nil && (profile.DefaultAction == "SCMP_ACT_ALLOW" || profile.DefaultAction == "SCMP_ACT_LOG")
}
