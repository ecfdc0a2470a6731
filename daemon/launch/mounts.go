package launch

import (
	"encoding/json/jsontext"
	"path"
	"slices"
	"strings"
)

// mounts separates the engines' own mounts from those that were asked for. They are
// sorted by destination, so a mount that a later one covers is marked.
func (n *normaliser) mounts(a *Asked, d *Defaults) {
	later := map[string]bool{}
	for _, m := range slices.Backward(n.c.Mounts) {
		out := Mount{Destination: m.Destination, Type: m.Type, Options: MountOptions(m.Options), UIDMappings: mappings(m.UIDMappings), GIDMappings: mappings(m.GIDMappings)}
		switch {
		case IsBind(m):
			out.Type = "bind"
			n.source(m, &out)
		case !slices.Contains(kernels, m.Type):
			out.Source = withoutID(m.Source, n.id)
		}
		out.Hidden = covered(later, path.Clean("/"+string(m.Destination)))
		out.Options = n.withoutLayers(out.Options)
		all := out
		if sized(out) {
			all.Options = slices.DeleteFunc(slices.Clone(out.Options), isSize)
		}
		all.Source, all.Volume, all.Anonymous, all.Secret, all.UIDMappings, all.GIDMappings = "", "", false, "", nil, nil
		d.Mounts = append(d.Mounts, all)
		if !n.addedByEngine(out) {
			out.Options = n.askedOptions(out)
			a.Mounts = append(a.Mounts, out)
		}
	}
	for _, list := range [][]Mount{a.Mounts, d.Mounts} {
		slices.Reverse(list)
		slices.SortStableFunc(list, func(a, b Mount) int { return strings.Compare(string(a.Destination), string(b.Destination)) })
	}
}

func mappings(raw jsontext.Value) jsontext.Value {
	if isZero(raw) {
		return nil
	}
	return form(raw)
}

// withoutLayers leaves out where podman has the layers of an overlay of this container:
// the places are random.
func (n *normaliser) withoutLayers(options []Text) []Text {
	for i, o := range options {
		name, dirs, _ := strings.Cut(string(o), "=")
		if name != "lowerdir" && name != "upperdir" && name != "workdir" {
			continue
		}
		list := strings.Split(dirs, ":")
		for k, dir := range list {
			if slices.ContainsFunc(n.own(), func(own string) bool { return strings.HasPrefix(path.Clean(dir), own) }) {
				list[k] = "{engine}"
			}
		}
		options[i] = Text(name + "=" + strings.Join(list, ":"))
	}
	return options
}

// kernels are file systems whose source is a name without effect (an overlay has its
// layers in its options).
var kernels = []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay"}

// covered reports whether a later mount lies over a place, and notes the place.
func covered(later map[string]bool, at string) bool {
	hidden := later["/"]
	for end := len(at); end > 0; end = strings.LastIndexByte(at[:end], '/') {
		hidden = hidden || later[at[:end]]
	}
	later[at] = true
	return hidden
}

// addedByEngine reports whether a mount is an engine's default, as an exact pair of
// place and thing.
func (n *normaliser) addedByEngine(m Mount) bool {
	if m.Hidden || len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
		return false
	}
	hosts := m.Destination == "/dev/shm" && m.Source == "/dev/shm" && n.ipc == NamespaceHost
	if m.Engine && m.Volume == "" || hosts {
		return !slices.ContainsFunc(m.Options, func(o Text) bool { return !slices.Contains(plainOptions, o) })
	}
	return n.isDefaultMount(m)
}

// plainOptions are those that an engine's own file may have.
var plainOptions = []Text{"bind", "nodev", "noexec", "nosuid", "private", "rbind", "relatime", "ro", "rprivate", "rro", "rslave", "rw", "slave"}

// addedOptions are those that one engine or the other adds to a mount that was asked
// for. They take away, are what holds without them, or are podman's default (tmpcopyup).
var addedOptions = []Text{"nodev", "noexec", "nosuid", "private", "rbind", "relatime", "rprivate", "rw", "tmpcopyup"}

// askedOptions are a mount's options without what engines add. The defaults have all.
func (n *normaliser) askedOptions(m Mount) []Text {
	var out []Text
	for _, o := range m.Options {
		switch {
		case o == "rro": // newer engines write it for a mount that is read-only
			out = append(out, "ro")
		case !slices.Contains(addedOptions, o):
			out = append(out, o)
		}
	}
	if m.Type == "tmpfs" && n.c.runtime == "podman" && !slices.Contains(m.Options, "tmpcopyup") {
		out = append(out, "notmpcopyup") // by default podman copies there what the image has
	}
	return sorted(out)
}

// IsBind reports whether a mount is a bind. As in runc, the options decide; the type is
// a hint.
func IsBind(m SpecMount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// opposites are pairs of options, of which the later one holds.
var opposites = map[string]string{
	"rw": "ro", "rrw": "rro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "norelro": "relro",
	"async": "sync", "noatime": "atime", "nodiratime": "diratime", "norelatime": "relatime",
	"nostrictatime": "strictatime", "nomand": "mand",
}

var propagations = []Text{"private", "rprivate", "rshared", "rslave", "runbindable", "shared", "slave", "unbindable"}

// MountOptions returns the options that hold, sorted: without those that a later one
// undoes, with those of propagation as one, and with SELinux labels cut to their type.
func MountOptions(options []Text) []Text {
	about := func(o Text) string {
		name, _, _ := strings.Cut(string(o), "=")
		if other, ok := opposites[name]; ok {
			return other
		}
		return name
	}
	last := map[string]Text{}
	for _, o := range options {
		if slices.Contains(propagations, o) {
			// Each is applied in turn, and may leave what the one before did below.
			if before, ok := last["propagation"]; ok {
				o = before + "," + o
			}
			last["propagation"] = o
			continue
		}
		name, value, hasValue := strings.Cut(string(o), "=")
		if hasValue && strings.HasSuffix(name, "context") {
			o = Text(name + "=" + selinuxType(strings.Trim(value, `"`)))
		}
		last[about(o)] = o
	}
	out := make([]Text, 0, len(last))
	for _, o := range last {
		out = append(out, o)
	}
	slices.Sort(out)
	return out
}
