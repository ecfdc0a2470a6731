package launch

import (
	"slices"
	"strconv"
	"strings"
)

// What engines add by themselves: docker from 20.10 on, podman from 4.3 on, and
// containerd. An addition counts as a default only if it is one of these exactly.

// commonCapabilities are those that both docker and podman give by default.
var commonCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// DockerCapabilities are those that docker gives by default. Podman's and containerd's
// are a part of them.
func DockerCapabilities() []string {
	return slices.Sorted(slices.Values(slices.Concat(commonCapabilities, []string{"CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"})))
}

// MaskedPaths are those that every engine masks.
func MaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
		"/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
	}
}

// ReadOnlyPaths are those that every engine makes read-only.
func ReadOnlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// DeviceRules are those that docker and containerd give every container. Podman has
// the runtime add them, and does not write them into the bundle.
func DeviceRules() []DeviceRule {
	list := []DeviceRule{{Allow: false, Type: "a", Access: "rwm"}}
	for _, d := range [][2]Integer{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}} {
		list = append(list, DeviceRule{Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm"})
	}
	pts, fuse := Integer(136), [2]Integer{10, 229}
	return append(list,
		DeviceRule{Allow: true, Type: "c", Major: &pts, Access: "rwm"},
		DeviceRule{Allow: true, Type: "c", Access: "m"},
		DeviceRule{Allow: true, Type: "b", Access: "m"},
		DeviceRule{Allow: false, Type: "c", Major: &fuse[0], Minor: &fuse[1], Access: "rwm"})
}

var (
	dockerCapabilities = DockerCapabilities()
	maskedPaths        = MaskedPaths()
	readOnlyPaths      = ReadOnlyPaths()
	defaultRules       = DeviceRules()
)

// engineVariables are those that engines give a container whose image has none of this
// name.
var engineVariables = []Text{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", "container=podman",
}

// engineSysctls are docker's and podman's.
var engineSysctls = []Text{
	"net.ipv4.ip_unprivileged_port_start=0", "net.ipv4.ping_group_range=0 2147483647", "net.ipv4.ping_group_range=0 0",
}

// engineUmask is podman's; docker gives none.
const engineUmask = 0o22

// defaultMount is a file system of the kernel's that engines mount in every container.
type defaultMount struct {
	destination, kind, options string
	only                       string // of this runtime, or of any
	readOnly                   bool   // only where the root file system is read-only
}

var defaultMounts = []defaultMount{
	{destination: "/proc", kind: "proc", options: "nodev,noexec,nosuid"},
	{destination: "/dev", kind: "tmpfs", options: "mode=755,nosuid,size=65536k,strictatime"},
	{destination: "/dev", kind: "tmpfs", options: "mode=755,noexec,nosuid,size=65536k,strictatime"},
	{destination: "/dev/pts", kind: "devpts", options: "gid=5,mode=0620,newinstance,noexec,nosuid,ptmxmode=0666"},
	{destination: "/dev/pts", kind: "devpts", options: "mode=0620,newinstance,noexec,nosuid,ptmxmode=0666,rprivate", only: "podman"}, // no group 5 in its user namespace
	{destination: "/dev/mqueue", kind: "mqueue", options: "nodev,noexec,nosuid"},
	{destination: "/dev/shm", kind: "tmpfs", options: "mode=1777,nodev,noexec,nosuid"}, // and a size
	{destination: "/sys", kind: "sysfs", options: "nodev,noexec,nosuid,ro"},
	{destination: "/sys/fs/cgroup", kind: "cgroup", options: "nodev,noexec,nosuid,ro"},
	{destination: "/sys/fs/cgroup", kind: "cgroup", options: "nodev,noexec,nosuid,relatime,ro"},
	{destination: "/sys/fs/cgroup", kind: "cgroup", options: "nodev,noexec,nosuid,relatime,ro,rprivate"},
	{destination: "/run", kind: "tmpfs", options: "mode=755,nosuid,size=65536k,strictatime", only: "containerd"},
	{destination: "/run", kind: "tmpfs", options: "nodev,nosuid,rprivate,rw,tmpcopyup", only: "podman", readOnly: true},
	{destination: "/tmp", kind: "tmpfs", options: "nodev,nosuid,rprivate,rw,tmpcopyup", only: "podman", readOnly: true},
	{destination: "/var/tmp", kind: "tmpfs", options: "nodev,nosuid,rprivate,rw,tmpcopyup", only: "podman", readOnly: true},
}

// isDefaultMount reports whether an engine gives every container this mount.
func (n *normaliser) isDefaultMount(m Mount) bool {
	options := joined(m.Options)
	if sized(m) {
		options = joined(slices.DeleteFunc(slices.Clone(m.Options), isSize))
	}
	return slices.ContainsFunc(defaultMounts, func(d defaultMount) bool {
		return Text(d.destination) == m.Destination && d.kind == m.Type && d.options == options &&
			(d.only == "" || d.only == n.c.runtime || n.c.runtime == "") && (!d.readOnly || n.c.Root.Readonly)
	})
}

// sized reports whether the size of a mount is a limit: docker's --shm-size gives it.
func sized(m Mount) bool { return m.Destination == "/dev/shm" && m.Type == "tmpfs" }

// isSize reports whether an option of a tmpfs is its size in bytes: a quantity.
func isSize(o Text) bool {
	number, ok := strings.CutPrefix(string(o), "size=")
	_, err := strconv.ParseUint(strings.TrimRight(number, "kmg"), 10, 64)
	return ok && err == nil
}

func joined(options []Text) string {
	out := make([]string, len(options))
	for i := range options {
		out[i] = string(options[i])
	}
	return strings.Join(out, ",")
}
