package power

import (
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/cima-project/cima/daemon/procfs"
)

// hostParts are directories that whoever can write them is root of the guest.
// With tree, so is any directory below.
var hostParts = []struct {
	path string
	tree bool
}{
	{"/", false}, {"/proc", true}, {"/sys", true}, {"/sys/fs/cgroup", true},
	{"/run", false}, {"/run/cima", true}, {"/run/cima-admin", true}, {"/run/log/cima", true}, {"/run/systemd", true}, {"/run/udev", true},
	{"/dev", false}, {"/etc", true}, {"/boot", true}, {"/root", true}, {"/usr", true},
	{"/bin", true}, {"/sbin", true}, {"/lib", true}, {"/lib64", true}, {"/var", false}, {"/var/lib", false}, {"/var/spool/cron", true},
}

// engineStorage is where engines keep images, volumes, bundles and state.
var engineStorage = []string{
	"/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/kubelet",
	"/run/docker", "/run/containerd", "/run/containers", "/run/runc", "/run/crun", "/run/libpod", "/run/crio",
}

// rootSockets are sockets whose owner does, as root, what it is asked.
var rootSockets = map[string]string{
	"/run/docker.sock": "docker", "/run/podman/podman.sock": "podman",
	"/run/containerd/containerd.sock": "containerd", "/run/docker/containerd/containerd.sock": "containerd",
	"/run/crio/crio.sock": "crio", "/run/systemd/private": "systemd", "/run/dbus/system_bus_socket": "dbus",
	"/run/cima-admin/admin.sock": "cima-admin",
}

// landmark is a part of the host that gives power to who has it.
type landmark struct {
	sighting
	class  string
	socket bool // connecting will do, be it mounted read-only
	tree   bool // what lies below gives it too
	engine bool // what the engine made for a container lies there by right
}

// landmarks are all of them, and the host's mounts, which are read once.
type landmarks struct {
	parts  []landmark
	mounts func() ([]procfs.Mount, error)
}

// powers are those of whoever has what was seen, mounted as b says.
func (ls landmarks) powers(seen sighting, b bind) []string {
	var out []string
	for _, l := range ls.parts {
		inside := l.tree && l.holds(seen) && !(l.engine && b.ofEngine)
		switch {
		case b.readOnly && !l.socket:
			if b.below && !l.engine && seen.holds(l.sighting) && !l.holds(seen) && l.isMount() {
				out = append(out, l.class)
			}
		case seen.holds(l.sighting) || inside:
			out = append(out, l.class)
		}
	}
	return out
}

// inEngine says that what was seen lies in the very mount in which an engine's
// storage lies: nothing was mounted between the two.
func (ls landmarks) inEngine(seen sighting) bool {
	last := seen.chain[len(seen.chain)-1]
	return slices.ContainsFunc(ls.parts, func(l landmark) bool {
		return l.engine && len(l.chain) > 0 && l.chain[len(l.chain)-1].mount == last.mount && l.holds(seen)
	})
}

// sighting is what is known of a host path: its names, as given and without
// symlinks, and the files on the way to it, none where it isn't there.
type sighting struct {
	names []string
	chain []component
}

// see looks at a path and keeps nothing open.
func (h Host) see(name string) (sighting, resolved, error) {
	at, err := h.find(name)
	at.close()
	s := sighting{names: distinct([]string{path.Clean("/" + name), at.path})}
	if err == nil {
		s.chain = at.chain
	}
	return s, at, err
}

// landmarks looks for them all. Storage is that of the container's engine, if
// it is known.
func (h Host) landmarks(storage string) landmarks {
	out := landmarks{mounts: sync.OnceValues(h.mounts)}
	add := func(name string, l landmark) {
		l.sighting, _, _ = h.see(name)
		out.parts = append(out.parts, l)
	}
	for _, p := range hostParts {
		add(p.path, landmark{class: Mount + p.path, tree: p.tree})
	}
	for name, of := range rootSockets {
		add(name, landmark{class: Socket + of, socket: true})
	}
	for _, name := range append(slices.Clone(engineStorage), storage) {
		if name != "" {
			add(name, landmark{class: EngineStorage, tree: true, engine: true})
		}
	}
	return out
}

// holds says that o is s or lies below it, by name or by being the same file:
// a volume whose driver mounts a part of the host has its power.
func (s sighting) holds(o sighting) bool {
	for _, dir := range s.names {
		if slices.ContainsFunc(o.names, func(name string) bool { return within(name, dir) }) {
			return true
		}
	}
	return len(s.chain) > 0 && slices.ContainsFunc(o.chain, s.chain[len(s.chain)-1].same)
}

// isMount says whether another mount begins here.
func (s sighting) isMount() bool {
	n := len(s.chain)
	return n > 1 && s.chain[n-1].mount != s.chain[n-2].mount
}

// within says that path is dir or lies below it.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}
