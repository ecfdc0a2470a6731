package power

import (
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// maxSockets bounds how many paths of the host's sockets are followed for one start.
const maxSockets = 4096

// declaredData judges a mount of declared data: it has a class if a socket of the host's
// is in it.
//
// Classes are public, so they must not follow from what a container can write: one that
// makes a FIFO, a socket, a device or many files in its data would spoil the verdicts of
// all. So the kernel is asked for the sockets of the host, and nobody looks into the data.
// A device in it is no power: the device cgroup lets nobody open it.
func (j *judge) declaredData(m *procfs.Mount) []string {
	if err := j.findSockets(); err != nil {
		return []string{classDataUnseen}
	}
	for _, p := range j.sockets {
		if m.Device == p.device && within(p.root, m.Root) {
			return []string{classDataSocket}
		}
	}
	return nil
}

// findSockets finds once where the sockets of the host's network namespace lie now.
func (j *judge) findSockets() error {
	if j.socketsFound {
		return nil
	}
	inData, elsewhere := make(map[string]bool), make(map[string]bool)
	err := procfs.SocketPaths(j.host.process(), func(name string) {
		name = path.Clean(name)
		switch {
		case slices.ContainsFunc(j.data, func(d declared) bool { return within(name, d.path) }):
			inData[name] = true
		case len(elsewhere) < maxSockets:
			elsewhere[name] = true // a link may lead to declared data
		}
	})
	if err != nil {
		return err
	}
	for _, names := range []map[string]bool{inData, elsewhere} {
		for name := range names {
			if len(j.sockets) == maxSockets {
				break
			}
			if p, ok := j.socketAt(name); ok {
				j.sockets = append(j.sockets, p)
			}
		}
	}
	j.socketsFound = true
	return nil
}

// socketAt returns the place of a socket of the host's, if there is one.
func (j *judge) socketAt(name string) (place, bool) {
	at, err := j.host.find(name)
	if err != nil {
		return place{}, false
	}
	at.close()
	return j.tables.place(&at), at.last().is(unix.S_IFSOCK)
}

// fromHost looks at a mount that nobody sees in the container: another mount covers it, or
// a directory is on the way that the daemon may not search. Where a container can move
// directories into which its own mounts go, it would make such at its next start. What is
// mounted is judged as it lies on the host, found by its place; nil: it has no path there.
func (j *judge) fromHost(m *procfs.Mount) *seen {
	if !local(m.Type) {
		return nil
	}
	for _, name := range j.tables.paths(m) {
		at, err := j.host.find(name)
		if err != nil {
			continue
		}
		last, p := at.last(), j.tables.place(&at)
		var st unix.Statx_t
		if err := statx(at.fd, "", &st); err == nil && p == (place{m.Device, m.Root}) {
			return newSeen(at.fd, last.mount, &st)
		}
		at.close()
	}
	return nil
}
