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
	below    bool     // read-only, but what is mounted below it comes along and isn't
	root     bool     // the root file system, whose layers are the engine's
	depth    int      // how many overlays lead to it
	ofEngine bool     // a file or volume of the engine's own, whose place nobody else names
	ids      []string // the container's, and its pod's
}

// names says that a path holds the container's id or its pod's.
func (b bind) names(name string) bool {
	return slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool {
		return part != "" && slices.Contains(b.ids, part)
	})
}

// binds are the bind mounts of a container whose bundle lies in dir.
func binds(c *launch.Spec, id, dir string) []bind {
	var out []bind
	if c.Root.Path != "" { // podman run --rootfs: it may be the host's own
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
		whole := slices.Contains(options, "rro") // what is mounted below too
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

// writableLayer is what an overlay of the specification's own writes to.
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

// bindTarget is what a bind leads to.
type bindTarget struct {
	bind
	path   string
	looked []string // as in resolved
	powers []string
}

// judge looks at what a bind mounts, before the runtime does.
func (h Host) judge(b bind, marks landmarks) bindTarget {
	seen, at, err := h.see(b.source)
	out := bindTarget{bind: b, path: at.path, looked: at.looked, powers: marks.powers(seen, b)}
	if err == nil && !b.readOnly {
		out.powers = distinct(append(out.powers, h.behind(b, seen, at, marks)...))
	}
	if b.ofEngine {
		return out // nobody knows the name before the engine has made it
	}
	if err != nil {
		out.powers = append(out.powers, UnresolvedMount)
	}
	if at.replaceable {
		out.powers = append(out.powers, ReplaceableMount)
	}
	return out
}

// replaces says that who has this mount can put something else in the place of
// what the other one mounts. That a part of the host can be written was said.
func (m bindTarget) replaces(o bindTarget) bool {
	if m.readOnly || o.ofEngine || slices.ContainsFunc(m.powers, func(class string) bool {
		return class != ReplaceableMount && class != UnresolvedMount
	}) {
		return false
	}
	return slices.ContainsFunc(o.looked, func(dir string) bool { return within(dir, m.path) })
}

// contested reports whether another container can replace what this one mounts, or
// this one what another mounts that has not begun. Both are asked, so that the
// later of two is the one that has the class.
func (f *bundleFacts) contested(mine []bindTarget, others []Other) bool {
	for _, o := range others {
		if o.Facts.bundle == nil || o.Facts.bundle.dir == f.dir || o.Facts.bundle.id == f.id {
			continue
		}
		for _, theirs := range o.Facts.bundle.known() {
			for _, m := range mine {
				if theirs.replaces(m) || !o.Begun && m.replaces(theirs) {
					return true
				}
			}
		}
	}
	return false
}

// known returns what the binds led to when they were judged last, or lead to now.
func (f *bundleFacts) known() []bindTarget {
	f.mu.Lock()
	targets := f.targets
	f.mu.Unlock()
	if targets != nil {
		return targets
	}
	return f.inspect()
}

// inspect judges the binds and stores what they lead to.
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
