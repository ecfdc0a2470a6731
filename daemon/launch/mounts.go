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
		all := out
		all.Source, all.Volume, all.Anonymous, all.Secret, all.UIDMappings, all.GIDMappings = "", "", false, "", nil, nil
		d.Mounts = append(d.Mounts, all)
		if !n.addedByEngine(out) {
			out.Options = askedOptions(out)
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

// kernels are file systems whose source is a name without effect.
var kernels = []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}

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
	if m.Engine && m.Volume == "" {
		return !slices.ContainsFunc(m.Options, func(o Text) bool { return !slices.Contains(plainOptions, o) })
	}
	return n.isDefaultMount(m)
}

// plainOptions are those that an engine's own file may have.
var plainOptions = []Text{"bind", "nodev", "noexec", "nosuid", "private", "rbind", "relatime", "ro", "rprivate", "rslave", "rw", "slave"}

// askedOptions are the options of a mount without what engines write differently for
// the same line. All of them stand in the defaults.
func askedOptions(m Mount) []Text {
	var out []Text
	for _, o := range m.Options {
		switch o {
		case "rw", "rprivate", "private":
		case "rbind":
			if m.Type != "bind" {
				out = append(out, o)
			}
		case "rro":
			out = append(out, "ro")
		default:
			out = append(out, o)
		}
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

// MountOptions returns the options that hold, sorted: without those that a later one
// undoes, and with SELinux labels cut to their type.
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
		name, value, hasValue := strings.Cut(string(o), "=")
		if hasValue && strings.HasSuffix(name, "context") {
			o = Text(name + "=" + SELinuxType(strings.Trim(value, `"`)))
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
