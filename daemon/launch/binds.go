package launch

import (
	"context"
	"path"
	"slices"
	"strings"
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
func binds(c *spec, id, dir string) []bind {
	var out []bind
	e := newEngineFiles(c, id)
	if c.Root.Path != "" { // podman run --rootfs: it may be the host's own
		out = append(out, bind{source: c.Root.Path, readOnly: c.Root.Readonly, root: true, ofEngine: true})
	}
	for _, m := range c.Mounts {
		upper, overlay := writableLayer(m)
		if !overlay && !isBind(m) {
			continue
		}
		if overlay {
			m.Source = upper
		}
		var made Mount
		e.source(m, &made)
		options := mountOptions(m.Options)
		whole := slices.Contains(options, "rro") // what is mounted below too
		b := bind{source: string(m.Source), readOnly: whole || slices.Contains(options, "ro"), ofEngine: made.Source == "", ids: []string{e.id, e.sandbox, e.pod}}
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
func writableLayer(m specMount) (Text, bool) {
	if m.Type != "overlay" || isBind(m) {
		return "", false
	}
	for _, o := range m.Options {
		if upper, ok := strings.CutPrefix(string(o), "upperdir="); ok {
			return Text(upper), true
		}
	}
	return "", false
}

// mounted is what a bind was found to mount.
type mounted struct {
	bind
	path   string
	looked []string // as in spot
	powers []string
}

// judge looks at what a bind mounts, before the runtime does.
func (h hostTree) judge(b bind, marks landmarks) mounted {
	seen, at, err := h.see(b.source)
	out := mounted{bind: b, path: at.path, looked: at.looked, powers: marks.powers(seen, b)}
	if err == nil && !b.readOnly {
		out.powers = sorted(append(out.powers, h.behind(b, seen, at, marks)...))
	}
	if b.ofEngine {
		return out // nobody knows the name before the engine has made it
	}
	if err != nil {
		out.powers = append(out.powers, PowerUnresolved)
	}
	if at.replaceable {
		out.powers = append(out.powers, PowerReplaceable)
	}
	return out
}

// replaces says that who has this mount can put something else in the place of
// what the other one mounts. That a part of the host can be written was said.
func (m mounted) replaces(o mounted) bool {
	if m.readOnly || o.ofEngine || slices.ContainsFunc(m.powers, func(class string) bool {
		return class != PowerReplaceable && class != PowerUnresolved
	}) {
		return false
	}
	return slices.ContainsFunc(o.looked, func(dir string) bool { return within(dir, m.path) })
}

// contested says that another container can replace what this one mounts, or
// this one what another mounts that has not begun. Both are asked, so that
// whichever comes later tells.
func (s *Store) contested(ctx context.Context, r Record, mine []mounted) (bool, error) {
	all, err := s.List(ctx)
	if err != nil {
		return false, err
	}
	for _, o := range all {
		if o.Err != nil || o.Bundle == r.Bundle || o.ID == r.ID {
			continue
		}
		for _, theirs := range s.mounted(o) {
			for _, m := range mine {
				if theirs.replaces(m) || o.InitPID == 0 && m.replaces(theirs) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// mounted is what another container's binds were found to mount when they were
// judged, or are now.
func (s *Store) mounted(r Record) []mounted {
	s.mu.Lock()
	known := s.records[r.config()]
	s.mu.Unlock()
	if known.stamp == r.Stamp && known.mounted != nil {
		return known.mounted
	}
	return s.look(r)
}

// look judges a container's binds and remembers what they mount.
func (s *Store) look(r Record) []mounted {
	h := s.host()
	marks := h.landmarks(r.storage)
	out := make([]mounted, 0, len(r.binds))
	for _, b := range r.binds {
		out = append(out, h.judge(b, marks))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.records[r.config()]; known.stamp == r.Stamp {
		known.mounted = out
		s.records[r.config()] = known
	}
	return out
}

func (s *Store) host() hostTree { return hostTree{root: s.options.HostRoot, trust: s.trust} }
