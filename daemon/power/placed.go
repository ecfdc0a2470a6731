package power

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// declared is a directory that the administrator declared.
type declared struct {
	path string
	place
	id procfs.FileID
}

// prepare looks up what the container's mounts are compared with. Each is looked up now:
// a directory may have been moved since the daemon started.
func (j *judge) prepare() {
	j.files = make(map[procfs.FileID]bool)
	for _, name := range j.c.Files {
		at, err := j.host.find(name)
		at.close()
		// A link could be anything's, even in the engine's directory.
		if err == nil && at.path == path.Clean(name) {
			j.files[at.last().id()] = true
		}
	}
	for _, dir := range j.c.Volumes {
		p, _ := j.host.placeOf(j.tables, dir)
		j.volumes = append(j.volumes, p)
	}
	for _, dir := range j.c.Own {
		p, _ := j.host.placeOf(j.tables, dir)
		j.pods = append(j.pods, declared{path: dir, place: p})
	}
	j.data, j.read = j.declare(j.c.Data), j.declare(j.c.DataRead)
	j.walk.data = make(map[procfs.FileID]bool)
	for _, d := range j.data {
		j.walk.data[d.id] = true
	}
	j.socket, _ = j.host.placeOf(j.tables, j.c.SocketDir)
	j.cgroups = procfs.Cgroups(j.process)
}

// declare finds the directories that are declared, and may be: root's alone, on no tmpfs,
// and without an engine's storage. The configuration refuses others when it is read, but
// they may change.
func (j *judge) declare(dirs []string) (out []declared) {
	for _, dir := range dirs {
		at, err := j.host.find(dir)
		at.close()
		p, kind := j.host.placeOf(j.tables, dir)
		stores := func(storage string) bool { return within(storage, dir) || within(dir, storage) }
		if err != nil || at.path != dir || !slices.Contains(diskTypes, kind) || !j.host.closed(at.chain) || slices.ContainsFunc(j.c.Storages, stores) {
			continue
		}
		out = append(out, declared{dir, p, at.last().id()})
	}
	return out
}

// closed reports whether root alone can change what a path leads to.
func (h Host) closed(chain []component) bool {
	for i, c := range chain {
		last := i == len(chain)-1
		if c.uid != 0 && c.uid != h.RootUID || c.mode&0o022 != 0 && (last || c.mode&unix.S_ISVTX == 0) {
			return false
		}
	}
	return true
}

// placed judges a mount of what lies at paths of the host.
func (j *judge) placed(m *procfs.Mount, s *seen) []string {
	paths := j.tables.paths(m)
	if len(paths) == 0 {
		return []string{classMount + named(m.Type)} // a disk, an overlay: mounted by or for the container
	}
	top := topOf(paths)
	switch {
	case j.isVolume(m, s), isDeclared(j.pods, m, paths):
		return nil
	case m.ReadOnly && j.socket.root != "" && m.Device == j.socket.device && m.Root == j.socket.root:
		return nil
	case isDeclared(j.data, m, paths):
		return j.declaredData(m)
	case !s.is(unix.S_IFREG) && !s.is(unix.S_IFDIR):
		return []string{classSpecial + top}
	case m.ReadOnly && isDeclared(j.read, m, paths):
		if s.is(unix.S_IFDIR) && j.walk.tree(s.fd, s.mount, nil).special {
			return []string{classDataSocket}
		}
		return nil
	case m.ReadOnly && j.allMayRead(m, s, paths):
		return nil
	case m.ReadOnly:
		return []string{classRead + top}
	}
	return []string{classWrite + top}
}

// isDeclared reports whether a mount shows declared data: by its place, or because its
// file system is mounted below a declared directory and nowhere else.
func isDeclared(list []declared, m *procfs.Mount, paths []string) bool {
	return slices.ContainsFunc(list, func(d declared) bool {
		return d.holds(m) || !slices.ContainsFunc(paths, func(p string) bool { return !within(p, d.path) })
	})
}

// isVolume reports whether a mount is an engine's volume: NAME/_data where the engine
// keeps volumes. A volume whose driver mounted something else there has another place.
// Where s is nil the place alone decides.
func (j *judge) isVolume(m *procfs.Mount, s *seen) bool {
	for i, p := range j.volumes {
		name, ok := strings.CutPrefix(m.Root, p.root+"/")
		name, data := strings.CutSuffix(name, "/_data")
		if p.root == "" || m.Device != p.device || !ok || !data || name == "" || strings.Contains(name, "/") {
			continue
		}
		if s == nil {
			return true
		}
		volume := path.Join(j.c.Volumes[i], name, "_data")
		at, err := j.host.find(volume)
		at.close()
		return err == nil && s.is(unix.S_IFDIR) && at.last().id() == s.id
	}
	return false
}

// allMayRead reports whether a file or tree is one that any user of the host may read,
// and that root alone can change: to have it is no power. Below /run sockets come and go.
func (j *judge) allMayRead(m *procfs.Mount, s *seen, paths []string) bool {
	if !slices.Contains(diskTypes, m.Type) || !j.open(s.uid, s.mode) || s.is(unix.S_IFREG) && s.links != 1 {
		return false
	}
	for _, p := range paths {
		if within(p, "/run") {
			return false
		}
		at, err := j.host.find(p)
		at.close()
		if err != nil || at.path != p || at.last().id() != s.id {
			return false
		}
		for _, c := range at.chain[:len(at.chain)-1] {
			if c.uid != 0 && c.uid != j.host.RootUID || c.mode&0o001 == 0 || c.mode&0o022 != 0 && c.mode&unix.S_ISVTX == 0 {
				return false
			}
		}
	}
	if s.is(unix.S_IFREG) {
		return true
	}
	found := j.walk.tree(s.fd, s.mount, j.open)
	return !found.special && !found.unseen && !found.private
}

// open reports whether all may read a file or directory of root's, which root alone may
// write.
func (j *judge) open(uid uint32, mode uint16) bool {
	need := uint16(0o004)
	if mode&unix.S_IFMT == unix.S_IFDIR {
		need = 0o005
	}
	return (uid == 0 || uid == j.host.RootUID) && mode&need == need && mode&0o022 == 0
}

// tops are the directories that a class names.
var tops = []string{"bin", "boot", "dev", "etc", "home", "lib", "opt", "root", "run", "sbin", "srv", "tmp", "usr", "var"}

// topOf is the first directory of the host's paths, if it is one that all hosts have.
func topOf(paths []string) string {
	top, _, _ := strings.Cut(strings.TrimPrefix(paths[0], "/"), "/")
	switch {
	case top == "":
		return "/"
	case slices.Contains(tops, top):
		return "/" + top
	}
	return unknownElse
}
