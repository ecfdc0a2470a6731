package peer

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// maxPIDNamespaces is how deep pid namespaces nest (MAX_PID_NS_LEVEL in
// include/linux/pid_namespace.h).
const maxPIDNamespaces = 32

// pidNS returns the pid namespace that the process is in. It never changes:
// setns(2) and unshare(2) move the children only (pid_namespaces(7)).
func (p process) pidNS() (procfs.FileID, error) { return p.stat("ns/pid") }

// rootDir returns the root directory of the process.
func (p process) rootDir() (procfs.FileID, error) { return p.stat("root") }

// stat follows a link of /proc/PID. The kernel wants the rights of ptrace:
// CAP_SYS_PTRACE, and no landlock domain round the daemon.
func (p process) stat(name string) (procfs.FileID, error) {
	id, err := procfs.Stat(p.dir, name)
	if err != nil {
		return id, fmt.Errorf("stat %s of the process: %w", name, ended(err))
	}
	return id, nil
}

// below reports whether the process's pid namespace is below top (NS_GET_PARENT,
// ioctl_nsfs(2)).
func (p process) below(top procfs.FileID) (bool, error) {
	fd, err := p.open("ns/pid")
	if err != nil {
		return false, err
	}
	defer func() { unix.Close(fd) }()
	for range maxPIDNamespaces {
		parent, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		if err == unix.EPERM {
			return false, nil // the daemon can't see the namespaces further up
		}
		if err != nil {
			return false, fmt.Errorf("ask for the parent of a pid namespace: %w", err)
		}
		unix.Close(fd)
		fd = parent
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return false, fmt.Errorf("stat the parent of a pid namespace: %w", err)
		}
		if (procfs.FileID{Device: st.Dev, Inode: st.Ino}) == top {
			return true, nil
		}
	}
	return false, nil
}
