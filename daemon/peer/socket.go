package peer

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// kernel says which interfaces this kernel has. They were tried: no version counts.
type kernel struct {
	peerPIDFD bool   // SO_PEERPIDFD, Linux 6.5
	pidfdInfo bool   // PIDFD_GET_INFO with the cgroup id, Linux 6.13
	cgroup    string // "v2", "hybrid" or "v1"

	pidfdNS bool // PIDFD_GET_PID_NAMESPACE, Linux 6.11
}

// probe tries the kernel's interfaces on the daemon itself.
func probe() (kernel, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return kernel{}, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	var k kernel
	if fd, err := unix.GetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
		unix.Close(fd)
		k.peerPIDFD = true
	}
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return kernel{}, fmt.Errorf("pidfd_open: %w; the kernel must be Linux 5.3 or later, and a seccomp filter must allow pidfd_open", err)
	}
	defer unix.Close(fd)
	_, err = cgroupID(fd)
	k.pidfdInfo = err == nil
	_, err = procfs.PIDNamespace(fd)
	k.pidfdNS = err == nil
	return k, nil
}

// cgroupID returns the id of the unified hierarchy's cgroup that a process is
// in, which is the inode of its directory (PIDFD_GET_INFO, linux/pidfd.h).
func cgroupID(pidfd int) (uint64, error) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID | unix.PIDFD_INFO_CGROUPID}
	if err := unix.IoctlPidfdInfo(pidfd, &info); err != nil {
		return 0, fmt.Errorf("PIDFD_GET_INFO: %w", ended(err))
	}
	if info.Mask&unix.PIDFD_INFO_CGROUPID == 0 {
		return 0, fmt.Errorf("PIDFD_GET_INFO returned no cgroup id")
	}
	return info.Cgroupid, nil
}

// connector is the process that called connect(2), from the socket.
type connector struct {
	pid      int
	uid, gid uint32
	pidfd    int
	exact    bool // the pidfd came with the socket
}

// connector reads from the socket which process connected. The caller closes pidfd.
func (id *Identifier) connector(conn *net.UnixConn) (connector, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return connector{}, refuse(err, "its connection is closed")
	}
	var p connector
	var failed error
	if err := raw.Control(func(fd uintptr) { p, failed = id.credentials(int(fd)) }); err != nil {
		return connector{}, refuse(err, "its connection is closed")
	}
	return p, failed
}

func (id *Identifier) credentials(socket int) (connector, error) {
	cred, err := unix.GetsockoptUcred(socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return connector{}, refuse(fmt.Errorf("SO_PEERCRED: %w", err), "the kernel did not return its credentials; connect again")
	}
	if cred.Pid <= 0 {
		return connector{}, refuse(nil, "its process cannot be seen from the daemon's pid namespace; cimad must run in the host's, or in one above the caller's")
	}
	p := connector{pid: int(cred.Pid), uid: cred.Uid, gid: cred.Gid, exact: id.kernel.peerPIDFD}
	if p.exact {
		p.pidfd, err = unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	} else {
		// Another process may have the pid since connect(2). The identity is that
		// of the process that has the pid now, and Caller.PIDFD says so.
		p.pidfd, err = unix.PidfdOpen(p.pid, 0)
	}
	if err != nil {
		return connector{}, refuse(fmt.Errorf("pidfd of %d: %w", p.pid, err), "the process that connected has ended; the connection must belong to a living process")
	}
	return p, nil
}
