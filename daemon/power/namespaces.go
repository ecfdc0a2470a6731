package power

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// namespaceFiles are the names in /proc/PID/ns of the namespaces that give power where
// they are the host's, by the specification's names.
var namespaceFiles = map[string]string{"ipc": "ipc", "mount": "mnt", "network": "net", "pid": "pid", "uts": "uts"}

// hostNamespaces returns the classes of a process that is in namespaces of the host.
func hostNamespaces(pid int) (out []string, err error) {
	for kind, file := range namespaceFiles {
		own, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/ns/%s", pid, file))
		if err != nil {
			return nil, fmt.Errorf("%s namespace of process %d: %w", kind, pid, err)
		}
		host, err := procfs.Stat(unix.AT_FDCWD, "/proc/1/ns/"+file)
		if err != nil {
			return nil, fmt.Errorf("%s namespace of the host: %w", kind, err)
		}
		if own == host {
			out = append(out, classNamespace+kind)
		}
	}
	return distinct(out), nil
}
