package power

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// tables are the mounts from which a container could have got its own. The kernel
// refuses a bind from another mount namespace than that of the process that makes it
// (mount(2), EINVAL): so they are the host's, and those of the process that made the
// container, where an engine has a mount namespace of its own.
type tables struct {
	byDevice map[uint64][]procfs.Mount // by superblock
	byID     map[uint64]procfs.Mount
	groups   map[uint64]bool // peer groups
}

// place is where a directory lies: a superblock, and a path in it.
type place struct {
	device uint64 // as mountinfo has it
	root   string // "" where there is no place
}

// tables reads them for the process with this directory of /proc.
func (h Host) tables(process string) (tables, error) {
	all, err := h.mounts()
	if err != nil {
		return tables{}, err
	}
	parent, err := procfs.Parent(process)
	if err != nil {
		return tables{}, err
	}
	if nothingMore, err := h.sharesMounts(parent, process); err != nil || nothingMore {
		return newTables(all), err
	}
	more, err := procfs.Mounts(fmt.Sprintf("/proc/%d", parent))
	return newTables(append(all, more...)), err
}

// sharesMounts reports whether a process's parent is in the host's mount namespace, or in
// the process's own. Of a parent in another pid namespace nothing can be known.
func (h Host) sharesMounts(parent int, process string) (bool, error) {
	if parent == 0 {
		return true, nil
	}
	theirs, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/ns/mnt", parent))
	if err != nil {
		return false, err
	}
	hosts, err := procfs.Stat(unix.AT_FDCWD, h.process()+"/ns/mnt")
	if err != nil {
		return false, err
	}
	own, err := procfs.Stat(unix.AT_FDCWD, process+"/ns/mnt")
	return theirs == hosts || theirs == own, err
}

// process is one that is in the host's mount namespace, as its directory of /proc.
func (h Host) process() string {
	if process, ok := strings.CutSuffix(h.Root, "/root"); ok && strings.HasPrefix(process, "/proc/") {
		return process
	}
	return "/proc/thread-self"
}

func (h Host) mounts() ([]procfs.Mount, error) { return procfs.Mounts(h.process()) }

func newTables(all []procfs.Mount) tables {
	t := tables{byDevice: make(map[uint64][]procfs.Mount), byID: make(map[uint64]procfs.Mount, len(all)), groups: make(map[uint64]bool)}
	for _, m := range all {
		t.byDevice[m.Device] = append(t.byDevice[m.Device], m)
		t.byID[m.ID] = m
		if m.Group != 0 {
			t.groups[m.Group] = true
		}
	}
	return t
}

// paths returns the paths of the host that lead to what a mount shows: by the mounts of
// its superblock that begin nearest to the superblock's root. A directory that is mounted
// elsewhere too keeps the path where it belongs.
func (t tables) paths(m *procfs.Mount) (paths []string) {
	nearest := -1
	for _, h := range t.byDevice[m.Device] {
		n := len(strings.TrimSuffix(h.Root, "/"))
		if !within(m.Root, h.Root) || nearest >= 0 && n > nearest {
			continue
		}
		if n < nearest {
			paths = nil
		}
		nearest = n
		paths = append(paths, path.Join(h.Point, m.Root[n:]))
	}
	return distinct(paths)
}

// leads reports whether a path of the host leads, by some mount above, to what m shows. A
// directory that is mounted at the very path is of another place, as a volume is whose
// driver mounts something; a whole file system is of that place.
func (t tables) leads(name string, m *procfs.Mount) bool {
	return slices.ContainsFunc(t.byDevice[m.Device], func(h procfs.Mount) bool {
		n := len(strings.TrimSuffix(h.Root, "/"))
		return within(m.Root, h.Root) && path.Join(h.Point, m.Root[n:]) == name && (h.Point != name || h.Root == "/")
	})
}

// placeOf finds the place of a directory of the host, and its file system's type.
func (h Host) placeOf(t tables, dir string) (place, string) {
	at, err := h.find(dir)
	at.close()
	if err != nil || len(at.chain) == 0 {
		return place{}, ""
	}
	return t.place(&at), t.byID[at.last().mount].Type
}

// place returns where a path of the host leads; the zero place: the tables lack its mount.
func (t tables) place(at *resolved) place {
	m, ok := t.byID[at.last().mount]
	if !ok {
		return place{}
	}
	rest := strings.TrimPrefix(path.Join("/", at.path), strings.TrimSuffix(m.Point, "/"))
	return place{m.Device, path.Join(m.Root, rest)}
}

// holds reports whether a mount shows the place or what lies below it.
func (p place) holds(m *procfs.Mount) bool {
	return p.root != "" && m.Device == p.device && within(m.Root, p.root)
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

func byPoint(a, b procfs.Mount) int {
	return cmp.Or(cmp.Compare(a.Point, b.Point), cmp.Compare(a.ID, b.ID))
}
