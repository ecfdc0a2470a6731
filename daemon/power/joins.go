package power

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/procfs"
)

// join is a namespace that a container enters by a path.
type join struct{ kind, path string }

func joins(c *launch.Spec) []join {
	var out []join
	for _, n := range c.Linux.Namespaces {
		if n.Path != "" {
			out = append(out, join{n.Type, n.Path})
		}
	}
	return out
}

// Namespaces returns the kinds of those namespaces of the host that a container joins
// by a path.
func (h Host) Namespaces(c *launch.Spec) []string {
	var kinds []string
	for _, j := range joins(c) {
		if hosts, _ := h.hostsNamespace(j); hosts {
			kinds = append(kinds, j.kind)
		}
	}
	return kinds
}

// powerful reports whether a namespace of the host gives power, if it is of this kind.
func (j join) powerful() bool { return slices.Contains(powerfulNamespaces, j.kind) }

// hostsNamespace reports whether a path leads to a namespace of the host, and whether
// that is certain.
func (h Host) hostsNamespace(j join) (hosts, known bool) {
	if strings.HasPrefix(j.path, "/proc/self/") || strings.HasPrefix(j.path, "/proc/thread-self/") {
		return true, true // the runtime's
	}
	st, replaceable, err := h.namespace(j.path)
	if err != nil {
		return false, false
	}
	// The daemon's own namespaces are the host's too, except those that its unit
	// makes private, which nobody else joins.
	for _, process := range []string{"1", "self"} {
		here, err := procfs.Stat(unix.AT_FDCWD, "/proc/"+process+"/ns/"+j.file())
		if err == nil && here == (procfs.FileID{Device: st.Dev, Inode: st.Ino}) {
			return true, true
		}
	}
	return false, !replaceable
}

// file returns the namespace's name in /proc/PID/ns.
func (j join) file() string {
	switch j.kind {
	case "network":
		return "net"
	case "mount":
		return "mnt"
	}
	return j.kind
}

// namespace finds the file behind a path: a file on which a namespace is mounted, or a
// link in /proc/PID/ns, which only the kernel can follow.
func (h Host) namespace(name string) (st unix.Stat_t, replaceable bool, err error) {
	at, err := h.find(name)
	if err == nil {
		defer at.close()
		return st, at.replaceable, unix.Fstat(at.fd, &st)
	}
	if !errors.Is(err, errMagic) || path.Base(path.Dir(at.path)) != "ns" {
		return st, false, err
	}
	replaceable = at.replaceable
	dir, err := h.find(path.Dir(at.path))
	if err != nil {
		return st, false, err
	}
	defer dir.close()
	return st, replaceable, unix.Fstatat(dir.fd, path.Base(at.path), &st, 0)
}
