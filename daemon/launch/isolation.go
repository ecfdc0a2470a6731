package launch

import (
	"regexp"
	"slices"
	"strings"
)

// Whose a namespace of a container is.
const (
	namespaceOwn    = "own"
	NamespaceHost   = "host"
	namespaceJoined = "joined"
)

var namespaceTypes = []string{"cgroup", "ipc", "mount", "network", "pid", "user", "uts"}

// engineNetns is the network namespace that podman makes for one container
// before the runtime runs; the name is random.
var engineNetns = regexp.MustCompile(`^/run/(user/[0-9]+/)?netns/netns-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// namespaces has all types, but time, which few use, only where it is not the host's.
// Paths are left out: they have pids and random names.
func namespaces(c *Spec) map[string]string {
	out := map[string]string{}
	for _, t := range namespaceTypes {
		out[t] = NamespaceHost
	}
	for _, n := range c.Linux.Namespaces {
		switch {
		case n.Path == "" || n.Type == "network" && engineNetns.MatchString(n.Path):
			out[n.Type] = namespaceOwn
		case strings.HasPrefix(n.Path, "/proc/1/ns/"):
			out[n.Type] = NamespaceHost
		default:
			out[n.Type] = namespaceJoined
		}
	}
	return out
}

// defaultRules are the device rules that docker and containerd give every
// container. Podman has the runtime add them, and does not write them into the bundle.
var defaultRules = func() []DeviceRule {
	list := []DeviceRule{{Allow: false, Type: "a", Access: "rwm"}}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}} {
		list = append(list, DeviceRule{Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm"})
	}
	pts, fuse := int64(136), [2]int64{10, 229}
	return append(list,
		DeviceRule{Allow: true, Type: "c", Major: &pts, Access: "rwm"},
		DeviceRule{Allow: true, Type: "c", Access: "m"},
		DeviceRule{Allow: true, Type: "b", Access: "m"},
		DeviceRule{Allow: false, Type: "c", Major: &fuse[0], Minor: &fuse[1], Access: "rwm"})
}()

// UsualDevice reports whether engines let every container open a device.
func UsualDevice(d Device) bool {
	return slices.ContainsFunc(defaultRules, func(r DeviceRule) bool {
		return r.Allow && r.Type == d.Type && r.Major != nil && *r.Major == d.Major && (r.Minor == nil || *r.Minor == d.Minor)
	})
}

// devices returns the nodes, sorted, and the rules beyond the defaults, in their order,
// since a later rule undoes an earlier one. Where every device is allowed it returns
// neither: they would be those of this machine.
func devices(c *Spec) (nodes []Device, rules []DeviceRule, all bool) {
	all = true // runc and crun allow what no rule denies
	for _, r := range c.Linux.Resources.Devices {
		r = plainRule(r)
		// Of a rule of type "a", runc and the kernel's devices.allow read nothing more.
		if r.Type == "a" && (r.Allow || r.Major == nil && r.Minor == nil && r.Access == "mrw") {
			all = r.Allow
			rules = nil
		}
		if !slices.ContainsFunc(defaultRules, func(d DeviceRule) bool { return sameRule(plainRule(d), r) }) {
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
	same := func(x, y *int64) bool { return x == y || x != nil && y != nil && *x == *y }
	return a.Allow == b.Allow && a.Type == b.Type && a.Access == b.Access && same(a.Major, b.Major) && same(a.Minor, b.Minor)
}

// hookStages are in the order in which the runtime runs them.
var hookStages = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

// engineHook is docker's own hook, whose arguments have a pid and the container's id.
// Users of docker can't add hooks.
var engineHook = regexp.MustCompile(`^/proc/([0-9]+|self)/exe$`)

func hooks(c *Spec, id string) []Hook {
	var out []Hook
	for _, stage := range hookStages {
		for _, h := range c.Hooks[stage] {
			if (c.runtime == "docker" || c.runtime == "") && engineHook.MatchString(string(h.Path)) && len(h.Args) > 0 && h.Args[0] == "libnetwork-setkey" {
				continue
			}
			hook := Hook{Stage: stage, Path: h.Path}
			for _, a := range h.Args {
				hook.Arguments = append(hook.Arguments, withoutID(a, id))
			}
			out = append(out, hook)
		}
	}
	return out
}

func withoutID(t Text, id string) Text {
	if !IsID(id) {
		return t
	}
	return Text(strings.NewReplacer(id, "{id}", id[:12], "{id}").Replace(string(t)))
}
