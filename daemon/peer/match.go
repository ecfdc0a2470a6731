package peer

import (
	"context"
	"fmt"
	"strings"
)

// rule decides which container a set of cgroup paths names, by paths and records
// only. Identify proves that the process belongs there.
type rule struct {
	records Records

	// own holds the daemon's own cgroups. If the daemon runs in a container, all
	// paths hold that container's id, and need no record for it.
	own []hierarchy

	// owner returns the first owner other than root of the cgroup directories
	// down to a path, else 0.
	owner func(h hierarchy, path string) (uint32, error)
}

// match is the container that the cgroups of one process name.
type match struct {
	container Container
	found     bool
	in        hierarchy // the hierarchy to look its cgroup up in
}

// match returns the container that the hierarchies name, with found false if none
// names any. It refuses a contradiction, and an id that no record has.
func (r *rule) match(ctx context.Context, hs []hierarchy) (match, error) {
	var m match
	asked := *r // the hierarchies name the same paths: look each up once
	asked.records = &answers{records: r.records, byPath: make(map[place]answer), everywhere: make(map[string]answer)}
	for _, h := range hs {
		line, err := asked.line(ctx, h)
		if err != nil {
			return match{}, err
		}
		switch {
		case !line.found:
		case !m.found:
			m = line
		case !m.container.same(line.container):
			return match{}, refuse(
				fmt.Errorf("hierarchy %s names %s, %s names %s", m.in, m.container.Name, h, line.container.Name),
				"its cgroup hierarchies %s and %s name different containers; leave the cgroups to the engine", m.in, h)
		case before(h, m.in):
			m = line
		}
	}
	return m, nil
}

// same reports whether two records are of one container. Other members may differ.
func (c Container) same(d Container) bool {
	return c.Name == d.Name && c.UID == d.UID && c.Runtime == d.Runtime
}

// line returns the container that one hierarchy names: by the longest prefix of its
// path that a record declares. A shorter prefix is the cgroup parent that was asked
// for (--cgroup-parent, a pod); cgroups further down were made in the container.
func (r *rule) line(ctx context.Context, h hierarchy) (match, error) {
	var m match
	known := len(r.ownPath(h)) // ids up to here need no record
	for end := 1; end < len(h.path); end++ {
		if next := strings.IndexByte(h.path[end:], '/'); next >= 0 {
			end += next
		} else {
			end = len(h.path)
		}
		c, ok, err := r.declared(ctx, h, h.path[:end])
		if err != nil {
			return match{}, err
		}
		if ok {
			m, known = match{c, true, h}, end
		}
	}
	for name := range strings.SplitSeq(h.path[known:], "/") {
		if holdsID(name) {
			return match{}, refuse(fmt.Errorf("no record declares %q in hierarchy %s", h.path, h), "%s", undeclared(h, m))
		}
	}
	return m, nil
}

// undeclared says why a cgroup with a container's id may have no record, and what to do.
func undeclared(h hierarchy, outer match) string {
	said := fmt.Sprintf("its cgroup in hierarchy %s holds a container id that no root-owned record declares", h)
	switch {
	case outer.found:
		return said + ": an engine inside another container started it (docker in docker); let the host's engine start it, or try again if that did so just now"
	case strings.HasPrefix(h.path, "/user.slice/"):
		return said + ": a user's own engine started it; the host's root must link rootless.conf, see cimad(8)"
	}
	return said + "; if the container was just started, try again"
}

// declared looks one path up in the records, and checks the answer.
func (r *rule) declared(ctx context.Context, h hierarchy, path string) (Container, bool, error) {
	c, ok, err := r.records.Declared(ctx, h.controllers, path)
	if err != nil {
		if ctx.Err() != nil {
			return Container{}, false, ctx.Err()
		}
		return Container{}, false, refuse(err, "the records of its container could not be used; see the journal of cimad")
	}
	if !ok {
		return Container{}, false, nil
	}
	if c.CgroupPath != path || c.Name == "" {
		return Container{}, false, refuse(
			fmt.Errorf("asked for %q, the record of %q declares %q", path, c.Name, c.CgroupPath),
			"the records of its container contradict themselves; see the journal of cimad")
	}
	if c.UID == 0 {
		return c, true, nil
	}
	// A user's record counts for the user's own cgroups only.
	owner, err := r.owner(h, path)
	if err != nil {
		return Container{}, false, refuse(err, "the owner of its cgroup could not be read; connect again")
	}
	return c, owner == c.UID, nil
}

// ownPath returns the daemon's own cgroup in this hierarchy if the path lies in it,
// else "".
func (r *rule) ownPath(h hierarchy) string {
	for _, own := range r.own {
		if own.controllers != h.controllers || own.path == "/" {
			continue
		}
		if rest, ok := strings.CutPrefix(h.path, own.path); ok && (rest == "" || rest[0] == '/') {
			return own.path
		}
	}
	return ""
}

// before orders hierarchies: the unified one, systemd's, then by name. The order must
// never change: the inode of the cgroup in the first of them is the container's
// instance.
func before(a, b hierarchy) bool {
	rank := func(h hierarchy) int {
		switch h.controllers {
		case "":
			return 0
		case "name=systemd":
			return 1
		default:
			return 2
		}
	}
	if rank(a) != rank(b) {
		return rank(a) < rank(b)
	}
	return a.controllers < b.controllers
}

// answers caches the answers of Records while one caller is identified.
type answers struct {
	records    Records
	byPath     map[place]answer
	everywhere map[string]answer // by path: those that hold in each hierarchy, of which v1 has a dozen
}

// place is a path in a hierarchy.
type place struct{ hierarchy, path string }

type answer struct {
	container Container
	found     bool
	err       error
}

func (a *answers) Declared(ctx context.Context, hierarchy, path string) (Container, bool, error) {
	key := place{hierarchy, path}
	cached, ok := a.byPath[key]
	if !ok {
		cached, ok = a.everywhere[path]
	}
	if !ok {
		cached.container, cached.found, cached.err = a.records.Declared(ctx, hierarchy, path)
		if cached.err == nil && cached.container.Hierarchy == "" {
			a.everywhere[path] = cached
		} else {
			a.byPath[key] = cached
		}
	}
	return cached.container, cached.found, cached.err
}
