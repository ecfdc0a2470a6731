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

// Namespaces returns the kinds of the namespaces that a container joins by a path
// and that are the host's.
func (h Host) Namespaces(c *launch.Spec) []string {
	var kinds []string
	for _, j := range joins(c) {
		if hosts, _ := h.hostsNamespace(j); hosts {
			kinds = append(kinds, j.kind)
		}
	}
	return kinds
}

// gives says that a namespace of the host's kind gives power.
func (j join) gives() bool { return slices.Contains(powerfulNamespaces, j.kind) }

// hostsNamespace says that a path leads to a namespace of the host's, and
// whether that can be told.
func (h Host) hostsNamespace(j join) (hosts, told bool) {
	if strings.HasPrefix(j.path, "/proc/self/") || strings.HasPrefix(j.path, "/proc/thread-self/") {
		return true, true // the runtime's
	}
	st, replaceable, err := h.namespace(j.path)
	if err != nil {
		return false, false
	}
	// Our own are the host's too, save what a unit's sandbox makes private, and
	// nobody else joins that.
	for _, process := range []string{"1", "self"} {
		here, err := procfs.Stat(unix.AT_FDCWD, "/proc/"+process+"/ns/"+j.file())
		if err == nil && here == (procfs.FileID{Device: st.Dev, Inode: st.Ino}) {
			return true, true
		}
	}
	return false, !replaceable
}

// file is the namespace's name in /proc/PID/ns.
func (j join) file() string {
	switch j.kind {
	case "network":
		return "net"
	case "mount":
		return "mnt"
	}
	return j.kind
}

// namespace finds the file behind a path: one that somebody mounted, or a link
// in /proc/PID/ns, which is no path and which the kernel alone can follow.
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
