package peer

import (
	"context"
	"fmt"
	"strings"
)

// rule decides which container a set of cgroup paths names. It looks at paths
// and records only; that a path proves nothing yet is seen to in identify.go.
type rule struct {
	records Records

	// own holds the daemon's own cgroups. In a container the daemon finds
	// that container's id above everybody; it is not one that is asked for.
	own []hierarchy

	// owner returns the first owner other than root of the cgroup
	// directories that lead to a path, else 0.
	owner func(h hierarchy, path string) (uint32, error)
}

// match is what the cgroups of one process name.
type match struct {
	container Container
	found     bool
	in        hierarchy // the one of those that name it to look its cgroup up in
}

// match returns the container that the hierarchies name, found false where
// none of them names any. A contradiction and an id that is in no record are
// refused.
func (r *rule) match(ctx context.Context, hs []hierarchy) (match, error) {
	var m match
	asked := *r // every hierarchy names the same paths: each is asked for once
	asked.records = &answers{records: r.records, byPath: make(map[string]answer)}
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
				fmt.Errorf("hierarchy %s names %s, %s names %s", m.in, m.container.ID, h, line.container.ID),
				"its cgroup hierarchies %s and %s name different containers; leave the cgroups to the engine", m.in, h)
		case before(h, m.in):
			m.in = h
		}
	}
	return m, nil
}

// same tells whether two records are of one container, whatever changed in
// them in between.
func (c Container) same(d Container) bool {
	return c.ID == d.ID && c.Runtime == d.Runtime && c.CgroupPath == d.CgroupPath
}

// line returns the container that one hierarchy names: the deepest prefix of
// its path that a record declares. Anything shallower is the parent that was
// asked for (--cgroup-parent, a pod); anything deeper the container, or who
// was moved there, made itself.
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
			return match{}, refuse(
				fmt.Errorf("no record declares %q in hierarchy %s", h.path, h),
				"its cgroup in hierarchy %s holds a container id that no root-owned record declares; if the container was just started, try again", h)
		}
	}
	return m, nil
}

// declared asks the records for one path and holds the answer to it.
func (r *rule) declared(ctx context.Context, h hierarchy, path string) (Container, bool, error) {
	c, ok, err := r.records.Declared(ctx, path)
	if err != nil {
		if ctx.Err() != nil {
			return Container{}, false, ctx.Err()
		}
		return Container{}, false, refuse(err, "the records of its container could not be used; see the journal of cimad")
	}
	if !ok {
		return Container{}, false, nil
	}
	if c.CgroupPath != path || c.ID == "" {
		return Container{}, false, refuse(
			fmt.Errorf("asked for %q, the record of %q declares %q", path, c.ID, c.CgroupPath),
			"the records of its container contradict themselves; see the journal of cimad")
	}
	if c.UID == 0 {
		return c, true, nil
	}
	// A user's record speaks for the user's own cgroups only.
	owner, err := r.owner(h, path)
	if err != nil {
		return Container{}, false, refuse(err, "the owner of its cgroup could not be read; connect again")
	}
	return c, owner == c.UID, nil
}

// ownPath returns the daemon's own cgroup in this hierarchy if the path lies
// in it, else nothing.
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

// before orders the hierarchies by which one stands for a container: the
// unified one, systemd's, then by name. The order must never change: the inode
// of the cgroup in the first of them is the container's instance.
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

// answers are what records said of paths, for as long as one caller is looked
// at.
type answers struct {
	records Records
	byPath  map[string]answer
}

type answer struct {
	container Container
	found     bool
	err       error
}

func (a *answers) Declared(ctx context.Context, path string) (Container, bool, error) {
	said, ok := a.byPath[path]
	if !ok {
		said.container, said.found, said.err = a.records.Declared(ctx, path)
		a.byPath[path] = said
	}
	return said.container, said.found, said.err
}
