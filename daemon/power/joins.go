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

// joined returns the kinds of namespaces that a container enters by a path, save those
// that its engine made for it or its pod.
func joined(c *launch.Spec, id string) (kinds []string) {
	whose := c.Namespaces()
	for _, n := range c.Linux.Namespaces {
		pods := n.Type == "network" && id != "" && c.Sandbox() == id &&
			slices.Contains([]string{"/run/netns", "/var/run/netns"}, path.Dir(path.Clean(n.Path)))
		if n.Path != "" && whose[n.Type] != launch.NamespaceOwn && !pods {
			kinds = append(kinds, n.Type)
		}
	}
	return kinds
}

// Namespaces returns the kinds of those namespaces of the host that a container joins
// by a path, as far as the path shows it before the container is made. The launch names
// them so; whether they are is judged at START.
func (h Host) Namespaces(c *launch.Spec) []string {
	var kinds []string
	for _, n := range c.Linux.Namespaces {
		if n.Path != "" && h.isHosts(n.Type, n.Path) {
			kinds = append(kinds, n.Type)
		}
	}
	return kinds
}

func (h Host) isHosts(kind, name string) bool {
	if strings.HasPrefix(name, "/proc/self/") || strings.HasPrefix(name, "/proc/thread-self/") {
		return true // the runtime's
	}
	file, ok := namespaceFiles[kind]
	if !ok {
		file = kind
	}
	joins, err := h.namespace(name)
	if err != nil {
		return false
	}
	// The daemon's own namespaces are the host's too, except those that its unit
	// makes private, which nobody else joins.
	for _, process := range []string{"1", "self"} {
		if here, err := procfs.Stat(unix.AT_FDCWD, "/proc/"+process+"/ns/"+file); err == nil && here == joins {
			return true
		}
	}
	return false
}

// namespace finds the file behind a path: a file on which a namespace is mounted, or a
// link in /proc/PID/ns, which only the kernel can follow.
func (h Host) namespace(name string) (procfs.FileID, error) {
	at, err := h.find(name)
	if err == nil {
		defer at.close()
		var st unix.Stat_t
		err := unix.Fstat(at.fd, &st)
		return procfs.FileID{Device: uint64(st.Dev), Inode: st.Ino}, err
	}
	if !errors.Is(err, errMagic) || path.Base(path.Dir(at.path)) != "ns" {
		return procfs.FileID{}, err
	}
	dir, err := h.find(path.Dir(at.path))
	if err != nil {
		return procfs.FileID{}, err
	}
	defer dir.close()
	return procfs.Stat(dir.fd, path.Base(at.path))
}
