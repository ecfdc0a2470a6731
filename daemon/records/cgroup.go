package records

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// declaration is what linux.cgroupsPath says of a container's cgroup. Which of the two
// holds is the runtime's choice, and its own record says what it chose (settle).
type declaration struct {
	// path is from the root of each hierarchy; "" where the runtime decides.
	path string

	// ending is how the path ends if the runtime takes the text for one that is
	// relative to its own cgroup; "" if it can't.
	ending string
}

// declare reads linux.cgroupsPath. An absolute path is from the root of the hierarchy.
// With its systemd driver a runtime takes "slice:prefix:name" for the unit
// prefix-name.scope below the slice (runc docs/systemd.md; systemd.slice(5) for the
// nesting; a rootless engine's is below its user's manager). All else, and with the
// other driver that too, is relative to the runtime's own cgroup.
func declare(text string, uid uint32) (declaration, error) {
	switch {
	case text == "":
		return declaration{}, nil
	case strings.ContainsAny(text, "\x00\n") || len(text) > 4096:
		return declaration{}, errors.New("cgroupsPath must be a path of at most 4096 bytes")
	}
	clean := path.Clean("/" + text)
	switch {
	case clean == "/":
		return declaration{}, errors.New("cgroupsPath must lie below the root of the hierarchy")
	case text[0] == '/':
		return declaration{path: clean}, nil
	}
	return declaration{path: unitPath(text, uid), ending: clean[1:]}, nil
}

// unitPath returns the path of the unit that "slice:prefix:name" names, "" where the
// text names none.
func unitPath(text string, uid uint32) string {
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[2] == "" || strings.Contains(parts[1]+parts[2], "/") {
		return ""
	}
	slice, prefix, name := parts[0], parts[1], parts[2]
	base := ""
	if uid != 0 {
		base = userManager(uid)
	}
	if slice == "" {
		slice = "system.slice"
		if uid != 0 {
			slice = "user.slice"
		}
	}
	above, ok := slicePath(slice)
	if !ok {
		return ""
	}
	unit := prefix + "-" + name + ".scope"
	if strings.HasSuffix(name, ".slice") {
		unit = name
	}
	return path.Join("/", base, above, unit)
}

// userManager is the cgroup of a user's service manager (user@.service(5)).
func userManager(uid uint32) string {
	return fmt.Sprintf("/user.slice/user-%d.slice/user@%d.service", uid, uid)
}

// slicePath nests a slice by its dashes: a-b.slice is /a.slice/a-b.slice.
func slicePath(slice string) (string, bool) {
	const maxName = 255 // bytes of a unit's name; the path grows with their square
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || strings.Contains(name, "/") || len(slice) > maxName {
		return "", false
	}
	if name == "-" {
		return "/", true
	}
	out, prefix := "/", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", false
		}
		prefix += part
		out = path.Join(out, prefix+".slice")
		prefix += "-"
	}
	return out, true
}

// maxControllers bounds the hierarchies that a runtime notes; the kernel has about 15.
const maxControllers = 64

// madePaths returns the cgroups into which runc put the container, by controller, with
// "" for the unified hierarchy: cgroup_paths of its state, where they are directories.
// It is nil where one of them lies elsewhere than cgroups usually do.
func madePaths(dirs map[string]string) map[string]string {
	if len(dirs) > maxControllers {
		return nil
	}
	made := make(map[string]string, len(dirs))
	for controller, dir := range dirs {
		p, ok := strings.CutPrefix(path.Clean(dir), "/sys/fs/cgroup/")
		if controller != "" || strings.HasPrefix(p, "unified/") && len(dirs) > 1 {
			var below bool
			_, p, below = strings.Cut(p, "/")
			ok = ok && below
		}
		if !ok {
			return nil
		}
		made[controller] = "/" + p
	}
	return made
}

// settled is where a container is: in one path in all hierarchies, or, where they differ,
// in one for each controller.
type settled struct {
	path         string
	hierarchy    string            // of path, by a controller, if hierarchies differ
	byController map[string]string // nil: they don't
}

// settle returns the container's cgroup by what the runtime notes that it made. Where
// the runtime notes nothing, what the bundle declares counts, and a relative path is not
// known yet.
func (d declaration) settle(made map[string]string, id string) (settled, error) {
	if len(made) == 0 {
		return settled{path: d.path}, nil
	}
	controllers := slices.SortedFunc(maps.Keys(made), compareControllers)
	first := controllers[0]
	declared, equal := d.path != "", true
	for _, c := range controllers {
		switch {
		case d.allows(made[c], id):
		case d == (declaration{}):
			return settled{}, nil // a cgroup that isn't the container's alone
		default:
			return settled{}, fmt.Errorf("the bundle declares the cgroup %s, the runtime made %s", d, made[c])
		}
		declared = declared && within(made[c], d.path)
		equal = equal && made[c] == made[first]
	}
	switch {
	case declared:
		return settled{path: d.path}, nil
	case equal:
		return settled{path: made[first]}, nil
	}
	return settled{path: made[first], hierarchy: first, byController: made}, nil
}

// allows reports whether the runtime may have made this cgroup of what is declared, or
// (crun) one below.
func (d declaration) allows(made, id string) bool {
	if d == (declaration{}) {
		return namesID(path.Base(made), id)
	}
	return d.path != "" && within(made, d.path) || d.ending != "" && strings.HasSuffix(made, "/"+d.ending)
}

// String shows the declaration in messages.
func (d declaration) String() string {
	if d.path == "" {
		return d.ending
	}
	return d.path
}

// judged is the path by which a cgroup's parents are judged before the runtime has made
// it. The cgroup that a relative path begins from is the engine's, and its parents are
// the host's.
func (d declaration) judged() string {
	if d.path == "" && d.ending != "" {
		return "/" + d.ending
	}
	return d.path
}

func within(name, above string) bool {
	rest, ok := strings.CutPrefix(name, above)
	return ok && (rest == "" || rest[0] == '/')
}

// namesID reports whether the last component of a cgroup path holds a container's id,
// as engines write it: "<id>", "docker-<id>.scope", "cri-containerd:<id>".
func namesID(last, id string) bool {
	last = strings.TrimSuffix(last, ".scope")
	before, ok := strings.CutSuffix(last, id)
	return ok && (before == "" || strings.HasSuffix(before, "-") || strings.HasSuffix(before, ":"))
}

// compareControllers orders controllers as package peer orders hierarchies: the
// unified one, systemd's, then by name.
func compareControllers(a, b string) int {
	rank := func(c string) int {
		switch c {
		case "":
			return 0
		case "name=systemd":
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// CgroupIn returns the container's cgroup in a hierarchy, which /proc/PID/cgroup names
// by its controllers: "memory", "cpu,cpuacct", "name=systemd", or "" for the unified one.
func (r Record) CgroupIn(hierarchy string) string {
	if r.details.byController == nil {
		return r.CgroupPath
	}
	for c := range strings.SplitSeq(hierarchy, ",") {
		if made, ok := r.details.byController[c]; ok {
			return made
		}
	}
	return ""
}
