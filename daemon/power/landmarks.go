package power

import (
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/cima-project/cima/daemon/procfs"
)

// hostParts are directories: a container that can write one can become root of the
// guest. With tree, that holds for any directory below.
var hostParts = []struct {
	path string
	tree bool
}{
	{"/", false}, {"/proc", true}, {"/sys", true}, {"/sys/fs/cgroup", true},
	{"/run", false}, {"/run/cima", true}, {"/run/cima-admin", true}, {"/run/log/cima", true}, {"/run/systemd", true}, {"/run/udev", true},
	{"/dev", false}, {"/etc", true}, {"/boot", true}, {"/root", true}, {"/usr", true},
	{"/bin", true}, {"/sbin", true}, {"/lib", true}, {"/lib64", true}, {"/var", false}, {"/var/lib", false}, {"/var/spool/cron", true},
}

// engineStorage are directories in which engines store images, volumes, bundles and
// state.
var engineStorage = []string{
	"/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/kubelet",
	"/run/docker", "/run/containerd", "/run/containers", "/run/runc", "/run/crun", "/run/libpod", "/run/crio",
}

// rootSockets are sockets of servers that act as root for their clients.
var rootSockets = map[string]string{
	"/run/docker.sock": "docker", "/run/podman/podman.sock": "podman",
	"/run/containerd/containerd.sock": "containerd", "/run/docker/containerd/containerd.sock": "containerd",
	"/run/crio/crio.sock": "crio", "/run/systemd/private": "systemd", "/run/dbus/system_bus_socket": "dbus",
	"/run/cima-admin/admin.sock": "cima-admin",
}

// landmark is a part of the host that gives power to a container that mounts it.
type landmark struct {
	sighted
	class  string
	socket bool // a client needs no right to write: a read-only mount gives it too
	tree   bool // what lies below gives the power too
	engine bool // an engine's storage, where what it made for a container may lie
}

// landmarks are all of the host's, and its mounts, which are read once.
type landmarks struct {
	parts  []landmark
	mounts func() ([]procfs.Mount, error)
}

// classes returns those of a container that mounts the path that was sighted, as b says.
func (ls landmarks) classes(seen sighted, b bind) []string {
	var out []string
	for _, l := range ls.parts {
		inside := l.tree && l.holds(seen) && !(l.engine && b.ofEngine)
		switch {
		case b.readOnly && !l.socket:
			if b.below && !l.engine && seen.holds(l.sighted) && !l.holds(seen) && l.isMount() {
				out = append(out, l.class)
			}
		case seen.holds(l.sighted) || inside:
			out = append(out, l.class)
		}
	}
	return out
}

// inEngine reports whether a path lies in the mount in which an engine's storage lies:
// nothing is mounted between the two.
func (ls landmarks) inEngine(seen sighted) bool {
	last := seen.chain[len(seen.chain)-1]
	return slices.ContainsFunc(ls.parts, func(l landmark) bool {
		return l.engine && len(l.chain) > 0 && l.chain[len(l.chain)-1].mount == last.mount && l.holds(seen)
	})
}

// sighted is what is known of a path of the host: its names, as given and without
// symlinks, and the files from the root to it, none where the path does not exist.
type sighted struct {
	names []string
	chain []component
}

// inspect resolves a path and keeps nothing open.
func (h Host) inspect(name string) (sighted, resolved, error) {
	at, err := h.find(name)
	at.close()
	s := sighted{names: distinct([]string{path.Clean("/" + name), at.path})}
	if err == nil {
		s.chain = at.chain
	}
	return s, at, err
}

// landmarks inspects them all. Storage is that of the container's engine, "" where it
// is unknown.
func (h Host) landmarks(storage string) landmarks {
	out := landmarks{mounts: sync.OnceValues(h.mounts)}
	add := func(name string, l landmark) {
		l.sighted, _, _ = h.inspect(name)
		out.parts = append(out.parts, l)
	}
	for _, p := range hostParts {
		add(p.path, landmark{class: classMount + p.path, tree: p.tree})
	}
	for name, of := range rootSockets {
		add(name, landmark{class: classSocket + of, socket: true})
	}
	for _, name := range append(slices.Clone(engineStorage), storage) {
		if name != "" {
			add(name, landmark{class: classEngineStorage, tree: true, engine: true})
		}
	}
	return out
}

// holds reports whether o is s or lies below it, by name or by the file itself: a
// volume whose driver mounts a part of the host has the power of that part.
func (s sighted) holds(o sighted) bool {
	for _, dir := range s.names {
		if slices.ContainsFunc(o.names, func(name string) bool { return within(name, dir) }) {
			return true
		}
	}
	return len(s.chain) > 0 && slices.ContainsFunc(o.chain, s.chain[len(s.chain)-1].same)
}

// isMount reports whether another mount begins here.
func (s sighted) isMount() bool {
	n := len(s.chain)
	return n > 1 && s.chain[n-1].mount != s.chain[n-2].mount
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}
