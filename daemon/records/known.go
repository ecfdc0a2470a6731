package records

import (
	"context"
	"fmt"
	"os"
	"path"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/procfs"
)

// known returns what a launch is computed by besides its bundle: what the engine's own
// files say of a container of root's, and the kernel of the namespaces that it joins.
func (s *Store) known(ctx context.Context, r *Record, c *launch.Spec) launch.Known {
	known := launch.Known{HostNamespaces: s.host().Namespaces(c)}
	switch r.Runtime {
	case "docker":
		is := s.storage.Docker(r.ID, r.RootPath)
		known.Image, known.Anonymous, known.Shares = is.Image, is.Anonymous, is.Shares
		r.details.labels, r.details.network = s.options.Rules.Choose(is.Labels), is.Network
	case "containerd":
		if is, err := s.storage.Containerd(r.Bundle); err == nil {
			known.Image = is.Image
		}
	case "podman", "cri-o":
		is := s.storage.Podman(ctx, r.ID, r.Bundle, r.RootPath)
		known.Image, known.Anonymous = is.Image, is.Anonymous
		known.Shares = func(id string) bool { return joins(c, s.podmanInit(id)) }
		known.Home = s.homeInTime(ctx, r, c)
	}
	return known
}

// joinedNamespace is how podman writes the namespace of another container. Other paths
// may lead anywhere.
var joinedNamespace = regexp.MustCompile(`^/proc/[1-9][0-9]*/ns/(net|ipc)$`)

// joins reports whether a container joins the network or the IPC namespace of the podman
// container with this first process. Podman notes that in its database alone, so the kernel is
// asked: the path in the bundle leads to the namespace that the other's first process
// is in.
func joins(c *launch.Spec, init state) bool {
	if init.pid == 0 {
		return false
	}
	for _, ns := range c.Linux.Namespaces {
		m := joinedNamespace.FindStringSubmatch(ns.Path)
		if m == nil {
			continue
		}
		theirs, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/ns/%s", init.pid, m[1]))
		ours, err2 := procfs.Stat(unix.AT_FDCWD, ns.Path)
		if err == nil && err2 == nil && theirs == ours && started(init) {
			return true
		}
	}
	return false
}

// podmanInit returns what the runtime noted of podman's container with this id.
func (s *Store) podmanInit(id string) state {
	for i := range s.options.Places {
		p := &s.options.Places[i]
		at := location{place: p, id: id}
		if p.Runtime != "podman" || p.ofUsers() || !exists(at.config()) {
			continue
		}
		if st, ok, err := s.readState(at, 0); ok && err == nil {
			return st
		}
	}
	return state{}
}

// started reports whether a process is the one that the runtime noted, after it was
// looked at.
func started(st state) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.pid))
	if err != nil {
		return false
	}
	ticks, err := procfs.StartTicks(string(text))
	return err == nil && ticks == st.start
}

// kubernetes is the namespace in which the CRI plugin has all its containers.
const kubernetes = "k8s.io"

// podName has what Kubernetes allows in names, and what crictl makes of a uid.
var podName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,252}$`)

// podOf is the pod that a container is of by the word of containerd's CRI plugin, which
// writes its own annotations over those that a pod's author gives. A name that no pod can
// have says that somebody else wrote it.
func podOf(r *Record, c *launch.Spec) launch.Pod {
	p := c.Pod()
	p.Image = ""
	if r.Runtime != "containerd" || path.Base(path.Dir(r.Bundle)) != kubernetes {
		return launch.Pod{}
	}
	for _, name := range []string{p.Namespace, p.Name, p.UID, p.Container} {
		if name != "" && !podName.MatchString(name) {
			return launch.Pod{}
		}
	}
	return p
}
