package power

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// namespaceFiles are the names in /proc/PID/ns of the namespaces that give power where
// they are the host's, by the specification's names.
var namespaceFiles = map[string]string{"ipc": "ipc", "mount": "mnt", "network": "net", "pid": "pid", "uts": "uts"}

// namespaces judges the namespaces of the process by their inodes: the host's, another
// container's, or, where it was entered by a path that nobody else's process shows, one
// of which nothing is known.
func (j *judge) namespaces(ctx context.Context) error {
	var others []Other
	if len(j.c.bundle.joined) > 0 && j.c.Others != nil {
		var err error
		if others, err = j.c.Others(ctx); err != nil {
			return err
		}
	}
	for kind, file := range namespaceFiles {
		own, err := procfs.Stat(unix.AT_FDCWD, j.process+"/ns/"+file)
		if err != nil {
			return fmt.Errorf("%s namespace: %w", kind, err)
		}
		hosts, err := hostsNamespaces(file)
		if err != nil {
			return fmt.Errorf("the host's %s namespace: %w", kind, err)
		}
		switch {
		case slices.Contains(hosts, own):
			j.say(classNamespace + kind)
		case slices.Contains(j.c.bundle.joined, kind):
			j.say(j.joins(kind, file, own, others)...)
		}
	}
	return nil
}

// hostsNamespaces returns the namespaces of the host, by their file in /proc/PID/ns: those
// of its first process, and the daemon's own. The daemon's are the host's too, except
// those that its unit makes private, which nobody else enters. The first process may
// have capabilities that the daemon hasn't: then it can't be asked (proc_pid_ns(5)).
func hostsNamespaces(file string) (all []procfs.FileID, err error) {
	for _, process := range []string{"1", "self"} {
		id, failed := procfs.Stat(unix.AT_FDCWD, "/proc/"+process+"/ns/"+file)
		if failed != nil {
			err = failed
			continue
		}
		all = append(all, id)
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, err
}

// joins names the class of a namespace that was entered by its path. The network of a
// container whose network the engine's record names is none, and neither is what
// containers of one pod share. With another's IPC comes its /dev/shm, which adds nothing.
func (j *judge) joins(kind, file string, own procfs.FileID, others []Other) []string {
	class := []string{classNamespace + kind}
	for _, o := range others {
		theirs, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/ns/%s", o.PID, file))
		if err != nil || theirs != own {
			continue
		}
		shares := o.Pod || o.Network && kind == "network"
		switch {
		case kind == "ipc":
			j.c.Files = append(j.c.Files, o.Shm...)
		case kind == "network" && shares:
			j.c.Files = append(j.c.Files, o.Files...)
		}
		if shares {
			class = nil
		} else if class != nil {
			class = []string{classJoined + kind}
		}
	}
	return class
}
