package launch

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Classes of power. Those that end in ":" are followed by what they are about.
const (
	PowerPrivileged   = "privileged"     // every device, and CAP_SYS_ADMIN
	PowerUnconfined   = "unconfined:"    // seccomp, apparmor, selinux, or paths: nothing keeps it from writing /proc/sys or /proc/sysrq-trigger
	PowerCapability   = "capability:"    // CAP_…, beyond docker's default set
	PowerDevice       = "device:"        // type:major:minor beyond the default ones; "*" is any
	PowerNamespace    = "namespace:"     // ipc, mount, network, pid or uts of the host
	PowerMount        = "mount:"         // may write this part of the host: /, /proc, /sys, /etc, …
	PowerStorage      = "engine-storage" // may write what an engine keeps
	PowerSocket       = "socket:"        // reaches the socket of something that acts for root
	PowerCgroupParent = "cgroup-parent"  // lies in another container's cgroup
	PowerNoCgroup     = "no-cgroup"      // declares no cgroup of its own
	PowerNoMetadata   = "no-metadata"    // nothing is known of it
)

// Power returns, sorted, the classes by which a container could act as root of
// the guest. Cgroup and user namespaces of the host are no class: they are the
// default, and dangerous only with a class that is. A rootless engine's
// container is its user's and has none.
//
// What is mounted is judged by path, by what symlinks make of it, and by being
// the same directory as one of the table. Another mount of the same file
// system elsewhere on the host is not found out.
func Power(r Record) []string {
	if r.Err != nil || r.Launch.Source == SourceNone || r.Launch.Source == "" {
		return []string{PowerNoMetadata}
	}
	return slices.Clone(r.power)
}

// defaultCapabilities are docker's; podman's and containerd's are a part of them.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// powers judges a container by its specification.
func powers(c *spec, id string, l Launch) []string {
	out := slices.Concat(capabilityPowers(l.Capabilities), confinementPowers(c, l), devicePowers(l), mountPowers(c, id, l))
	if l.AllDevices && slices.Contains(out, PowerCapability+"CAP_SYS_ADMIN") {
		out = append(out, PowerPrivileged)
	}
	for _, t := range []string{"ipc", "mount", "network", "pid", "uts"} {
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
	if l.Seccomp == "unconfined" {
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
		for _, dangerous := range []string{"/proc/sys", "/proc/sysrq-trigger"} {
			if !slices.Contains(l.ReadOnlyPaths, Text(dangerous)) && !slices.Contains(l.MaskedPaths, Text(dangerous)) {
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

// hostParts are directories that whoever can write them is root of the guest.
// With tree, so is any directory below.
var hostParts = []struct {
	path string
	tree bool
}{
	{"/", false}, {"/proc", true}, {"/sys", true}, {"/sys/fs/cgroup", true},
	{"/run", false}, {"/run/cima", true}, {"/run/cima-admin", true}, {"/run/log/cima", true}, {"/run/systemd", true}, {"/run/udev", true},
	{"/dev", false}, {"/etc", true}, {"/boot", true}, {"/root", true}, {"/usr", true},
	{"/bin", true}, {"/sbin", true}, {"/lib", true}, {"/lib64", true}, {"/var", false}, {"/var/lib", false}, {"/var/spool/cron", true},
}

// engineStorage is where engines keep images, volumes, bundles and state.
var engineStorage = []string{
	"/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/kubelet",
	"/run/docker", "/run/containerd", "/run/containers", "/run/runc", "/run/crun", "/run/libpod", "/run/crio",
}

// rootSockets are sockets whose owner does, as root, what it is asked.
var rootSockets = map[string]string{
	"/run/docker.sock": "docker", "/run/podman/podman.sock": "podman",
	"/run/containerd/containerd.sock": "containerd", "/run/docker/containerd/containerd.sock": "containerd",
	"/run/crio/crio.sock": "crio", "/run/systemd/private": "systemd", "/run/dbus/system_bus_socket": "dbus",
	"/run/cima-admin/admin.sock": "cima-admin",
}

func mountPowers(c *spec, id string, l Launch) []string {
	var out []string
	e := newEngineFiles(c, id)
	for _, m := range c.Mounts {
		options := mountOptions(m.Options)
		whole := slices.Contains(options, "rro") // what is mounted below too
		readOnly := whole || slices.Contains(options, "ro")
		switch {
		case isBind(m):
			var made Mount
			e.source(m, &made)
			for _, at := range hostPaths(string(m.Source)) {
				out = append(out, bindPowers(at, readOnly, made.Source == "", e.storage)...)
				if readOnly && !whole && slices.Contains(options, "rbind") {
					out = append(out, mountsBelow(at)...)
				}
			}
		case readOnly:
		case m.Type == "sysfs":
			out = append(out, PowerMount+"/sys")
		case (m.Type == "cgroup" || m.Type == "cgroup2") && l.Namespaces["cgroup"] == host:
			out = append(out, PowerMount+"/sys/fs/cgroup")
		}
	}
	return out
}

// mountsBelow are the parts of the host that are mounted somewhere below at: a
// recursive bind takes them along, and "ro" holds for its topmost mount only.
func mountsBelow(at string) []string {
	var out []string
	for _, p := range hostParts {
		if p.path != at && within(p.path, at) && isMount(p.path) {
			out = append(out, PowerMount+p.path)
		}
	}
	return out
}

// isMount says whether another file system begins here.
func isMount(dir string) bool {
	var here, above unix.Stat_t
	return unix.Lstat(dir, &here) == nil && unix.Lstat(path.Dir(dir), &above) == nil && here.Dev != above.Dev
}

// bindPowers judges a host path that a container sees. Connecting to a socket
// works on a read-only mount too. What the engine made for the container lies
// in the engine's storage by right.
func bindPowers(at string, readOnly, engines bool, storage string) []string {
	var out []string
	for socket, name := range rootSockets {
		if within(socket, at) {
			out = append(out, PowerSocket+name)
		}
	}
	if readOnly {
		return out
	}
	for _, p := range hostParts {
		// A bind of /run contains /run/cima: it says so itself.
		if within(p.path, at) || p.tree && within(at, p.path) {
			out = append(out, PowerMount+p.path)
		}
	}
	for _, p := range append(slices.Clone(engineStorage), storage) {
		if p == "" {
			continue
		}
		if within(p, at) || !engines && within(at, p) {
			out = append(out, PowerStorage)
		}
	}
	return out
}

// within says that path is dir or lies below it.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// hostPaths returns the names by which a bind's source is known: as given,
// without symlinks, and the directory of the table that it is the same as (a
// volume whose driver mounts a part of the host, say).
func hostPaths(source string) []string {
	at := path.Clean("/" + source)
	if rest, ok := strings.CutPrefix(at, "/var/run"); ok && (rest == "" || rest[0] == '/') {
		at = "/run" + rest
	}
	out := []string{at}
	if real, err := filepath.EvalSymlinks(at); err == nil {
		out = append(out, real)
	}
	info, err := os.Stat(at)
	if err != nil {
		return sorted(out)
	}
	for _, p := range hostParts {
		if part, err := os.Stat(p.path); err == nil && os.SameFile(part, info) {
			out = append(out, p.path)
		}
	}
	return sorted(out)
}
