package launch

import (
	"bytes"
	"encoding/json/jsontext"
	"regexp"
	"slices"
	"strings"
)

// Whose a namespace of a container is.
const (
	NamespaceOwn    = "own"
	NamespaceHost   = "host"
	namespaceJoined = "joined"
)

var namespaceTypes = []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}

// engineNetns is the network namespace that podman makes for one container
// before the runtime runs; the name is random.
var engineNetns = regexp.MustCompile(`^/run/(user/[0-9]+/)?netns/netns-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Namespaces returns for each type whether the namespace is the container's own, the
// host's, or one that is joined by its path.
func (c *Spec) Namespaces() map[string]string {
	out := map[string]string{}
	for _, t := range namespaceTypes {
		out[t] = NamespaceHost
	}
	for _, n := range c.Linux.Namespaces {
		switch {
		case n.Path == "" || n.Type == "network" && engineNetns.MatchString(n.Path):
			out[n.Type] = NamespaceOwn
		case strings.HasPrefix(n.Path, "/proc/1/ns/"):
			out[n.Type] = NamespaceHost
		default:
			out[n.Type] = namespaceJoined
		}
	}
	return out
}

// strangeNamespaces are, sorted, the types that the specification does not know, or
// names twice.
func (n *normaliser) strangeNamespaces() []jsontext.Value {
	var out []jsontext.Value
	seen := map[string]bool{}
	for _, ns := range n.c.Linux.Namespaces {
		if seen[ns.Type] || !slices.Contains(namespaceTypes, ns.Type) {
			out = append(out, quote(Text(ns.Type)))
		}
		seen[ns.Type] = true
	}
	slices.SortFunc(out, func(a, b jsontext.Value) int { return bytes.Compare(a, b) })
	return out
}

// usualNamespaces are those that engines make by default. A cgroup namespace is made
// or not by the version of cgroups.
var usualNamespaces = map[string]string{
	"ipc": NamespaceOwn, "mount": NamespaceOwn, "network": NamespaceOwn, "pid": NamespaceOwn, "uts": NamespaceOwn,
	"time": NamespaceHost, "user": NamespaceHost,
}

// namespaces shows those that are not as engines make them by default. Paths are left
// out: they have pids and random names.
func (n *normaliser) namespaces(a *Asked, d *Defaults) {
	all := n.c.Namespaces()
	for _, t := range n.known.HostNamespaces {
		all[t] = NamespaceHost
	}
	n.ipc = all["ipc"]
	a.Namespaces, d.Namespaces = map[string]string{}, map[string]string{}
	for t, whose := range all {
		switch {
		case t == "cgroup" && whose != namespaceJoined:
			d.Namespaces[t] = whose
		case usualNamespaces[t] != whose:
			a.Namespaces[t] = whose
		}
	}
}

// confinement is what the specification says of paths and of the host's security
// modules.
func (n *normaliser) confinement(a *Asked, d *Defaults) {
	l := n.c.Linux
	a.RootReadOnly = n.c.Root.Readonly
	d.MaskedPaths, d.ReadOnlyPaths = anyCPU(l.MaskedPaths), sorted(l.ReadonlyPaths)
	for _, p := range maskedPaths {
		if !slices.Contains(d.MaskedPaths, Text(p)) {
			a.Unmasked = append(a.Unmasked, Text(p))
		}
	}
	for _, p := range readOnlyPaths {
		if !slices.Contains(d.ReadOnlyPaths, Text(p)) && !slices.Contains(d.MaskedPaths, Text(p)) {
			a.WritablePaths = append(a.WritablePaths, Text(p))
		}
	}
	if profile, ok := engineProfile(n.c.Process.AppArmorProfile); ok {
		d.AppArmor = profile
	} else {
		a.AppArmor = profile
	}
	if label := selinuxType(n.c.Process.SELinuxLabel); slices.Contains(engineTypes, label) {
		d.SELinux = label
	} else {
		a.SELinux = label
	}
}

// throttle is what newer engines mask for each CPU that the machine has.
var throttle = regexp.MustCompile(`^/sys/devices/system/cpu/cpu[0-9]+/thermal_throttle$`)

// anyCPU sorts paths, and shows those of the single CPUs as one.
func anyCPU(paths []Text) []Text {
	out := slices.Clone(paths)
	for i, p := range out {
		if throttle.MatchString(string(p)) {
			out[i] = "/sys/devices/system/cpu/cpu*/thermal_throttle"
		}
	}
	return sorted(out)
}

// profiles are engines' AppArmor profiles. Podman's has its version at the end.
var profiles = []string{"docker-default", "containers-default", "cri-containerd.apparmor.d", "crio-default"}

// engineProfile cuts the version off an engine's AppArmor profile, and reports whether
// it is one.
func engineProfile(profile string) (string, bool) {
	if strings.HasPrefix(profile, "containers-default-") {
		profile = "containers-default"
	}
	return profile, slices.Contains(profiles, profile)
}

// engineTypes are the types that engines give to processes of containers.
var engineTypes = []string{"container_t", "container_init_t"}

// selinuxType returns the type of user:role:type:level. The level differs from run to
// run.
func selinuxType(label string) string {
	if parts := strings.SplitN(label, ":", 4); len(parts) >= 3 {
		return parts[2]
	}
	return label
}

// UsualDevice reports whether engines let every container open a device.
func UsualDevice(d Device) bool {
	return slices.ContainsFunc(defaultRules, func(r DeviceRule) bool {
		return r.Allow && r.Type == d.Type && r.Major != nil && *r.Major == d.Major && (r.Minor == nil || *r.Minor == d.Minor)
	})
}

// deviceAccess returns the nodes, sorted, and the rules beyond the defaults, in their
// order, since a later rule undoes an earlier one. Where every device is allowed it
// returns neither: they would be those of this machine.
func (c *Spec) deviceAccess() (nodes []Device, rules []DeviceRule, all bool) {
	all = true // runc and crun allow what no rule denies
	for _, r := range c.Linux.Resources.Devices {
		r = plainRule(r)
		// Of a rule of type "a", runc and the kernel's devices.allow read nothing more.
		if r.Type == "a" && (r.Allow || r.Major == nil && r.Minor == nil && r.Access == "mrw") {
			all = r.Allow
			rules = nil
		}
		if !isDefaultRule(r) {
			rules = append(rules, r)
		}
	}
	if all {
		return nil, nil, true
	}
	for _, d := range c.Linux.Devices {
		node := Device{Path: d.Path, Type: d.Type, Major: d.Major, Minor: d.Minor, UID: d.UID, GID: d.GID}
		if d.FileMode != nil {
			mode := *d.FileMode & 0o7777 // podman writes the file's type too
			node.Mode = &mode
		}
		nodes = append(nodes, node)
	}
	slices.SortStableFunc(nodes, func(a, b Device) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return nodes, rules, false
}

// allRules are all device rules, in their order.
func (n *normaliser) allRules() []DeviceRule {
	var out []DeviceRule
	for _, r := range n.c.Linux.Resources.Devices {
		out = append(out, plainRule(r))
	}
	return out
}

func isDefaultRule(r DeviceRule) bool {
	return slices.ContainsFunc(defaultRules, func(d DeviceRule) bool { return sameRule(plainRule(d), r) })
}

// plainRule gives a rule one spelling: no number for "any", sorted access.
func plainRule(r DeviceRule) DeviceRule {
	if r.Type == "" {
		r.Type = "a"
	}
	if r.Major != nil && *r.Major < 0 {
		r.Major = nil
	}
	if r.Minor != nil && *r.Minor < 0 {
		r.Minor = nil
	}
	access := []byte(r.Access)
	slices.Sort(access)
	r.Access = string(slices.Compact(access))
	return r
}

func sameRule(a, b DeviceRule) bool {
	same := func(x, y *Integer) bool { return x == y || x != nil && y != nil && *x == *y }
	return a.Allow == b.Allow && a.Type == b.Type && a.Access == b.Access && same(a.Major, b.Major) && same(a.Minor, b.Minor)
}
