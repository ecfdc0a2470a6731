package power

import (
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
)

// bind is a mount of a host path, as the specification asks for it.
type bind struct {
	source   string // absolute
	readOnly bool
	below    bool     // read-only, but mounts below the source come along and are writable
	root     bool     // the root file system, whose layers belong to the engine
	depth    int      // how many overlays lead to it
	ofEngine bool     // a file or volume of the engine's own, whose path only the engine chooses
	ids      []string // the container's, and its pod's
}

// names reports whether a path has the container's id, or its pod's, as a component.
func (b bind) names(name string) bool {
	return slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool {
		return part != "" && slices.Contains(b.ids, part)
	})
}

// binds returns the bind mounts of a container whose bundle lies in dir.
func binds(c *launch.Spec, id, dir string) []bind {
	var out []bind
	if c.Root.Path != "" { // podman run --rootfs: the root may be the host's own
		out = append(out, bind{source: c.Root.Path, readOnly: c.Root.Readonly, root: true, ofEngine: true})
	}
	for _, m := range c.Mounts {
		upper, overlay := writableLayer(m)
		if !overlay && !launch.IsBind(m) {
			continue
		}
		if overlay {
			m.Source = upper
		}
		options := launch.MountOptions(m.Options)
		whole := slices.Contains(options, "rro") // also read-only below
		b := bind{source: string(m.Source), readOnly: whole || slices.Contains(options, "ro"), ofEngine: c.OfEngine(m, id), ids: []string{id, c.Sandbox(), c.Pod().UID}}
		b.below = b.readOnly && !whole && slices.Contains(options, "rbind")
		out = append(out, b)
	}
	for i := range out {
		if !path.IsAbs(out[i].source) {
			out[i].source = dir + "/" + out[i].source
		}
	}
	return out
}

// writableLayer returns the directory that an overlay of the specification writes to.
func writableLayer(m launch.SpecMount) (launch.Text, bool) {
	if m.Type != "overlay" || launch.IsBind(m) {
		return "", false
	}
	for _, o := range m.Options {
		if upper, ok := strings.CutPrefix(string(o), "upperdir="); ok {
			return launch.Text(upper), true
		}
	}
	return "", false
}

// bindTarget is what the source of a bind leads to.
type bindTarget struct {
	bind
	path    string
	parents []string // as in resolved
	classes []string
}

// judge resolves the source of a bind, before the runtime does, and names its classes.
func (h Host) judge(b bind, marks landmarks) bindTarget {
	seen, at, err := h.inspect(b.source)
	out := bindTarget{bind: b, path: at.path, parents: at.parents, classes: marks.classes(seen, b)}
	if err == nil && !b.readOnly {
		out.classes = distinct(append(out.classes, h.behindMount(b, seen, at, marks)...))
	}
	if b.ofEngine {
		return out // nobody knows the path before the engine has made it
	}
	if err != nil {
		out.classes = append(out.classes, classUnresolvedMount)
	}
	if at.replaceable {
		out.classes = append(out.classes, classReplaceableMount)
	}
	return out
}

// mayReplace reports whether a container with this mount can put something else in the
// place of what the other one mounts. A mount that has a class already is not asked: it
// may write a part of the host anyway.
func (m bindTarget) mayReplace(o bindTarget) bool {
	if m.readOnly || o.ofEngine || slices.ContainsFunc(m.classes, func(class string) bool {
		return class != classReplaceableMount && class != classUnresolvedMount
	}) {
		return false
	}
	return slices.ContainsFunc(o.parents, func(dir string) bool { return within(dir, m.path) })
}

// contested reports whether another container can replace what this one mounts, or
// this one what another mounts that has not begun. Both ways are checked, so that the
// container that comes later has the class.
func (f *bundleFacts) contested(mine []bindTarget, others []Other) bool {
	for _, o := range others {
		if o.Facts.bundle == nil || o.Facts.bundle.dir == f.dir || o.Facts.bundle.id == f.id {
			continue
		}
		for _, theirs := range o.Facts.bundle.known() {
			for _, m := range mine {
				if theirs.mayReplace(m) || !o.Begun && m.mayReplace(theirs) {
					return true
				}
			}
		}
	}
	return false
}

// known returns the targets of the binds when they were judged last, or now.
func (f *bundleFacts) known() []bindTarget {
	f.mu.Lock()
	targets := f.targets
	f.mu.Unlock()
	if targets != nil {
		return targets
	}
	return f.inspect()
}

// inspect judges the binds and stores their targets.
func (f *bundleFacts) inspect() []bindTarget {
	marks := f.host.landmarks(f.storage)
	out := make([]bindTarget, 0, len(f.binds))
	for _, b := range f.binds {
		out = append(out, f.host.judge(b, marks))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.targets = out
	return out
}
