// Package fifo answers: does a container's first process wait to be started?
//
// runc and crun make a container's first process long before they start it. Until then it
// waits in a FIFO, exec.fifo, in the runtime's directory of the container, and no
// instruction of the container has run.
package fifo

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Name is the name of the FIFO in which a container's first process waits for the
// runtime's start command, in the runtime's directory of the container.
const Name = "exec.fifo"

// In returns the exec FIFO in a runtime's directory of a container. runc and crun
// make it before they make the first process, and remove it when the container starts.
func In(dir string) (procfs.FileID, error) {
	var st unix.Stat_t
	name := path.Join(dir, Name)
	if err := unix.Lstat(name, &st); err != nil {
		return procfs.FileID{}, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return procfs.FileID{}, fmt.Errorf("%s must be a FIFO", name)
	}
	return procfs.FileID{Device: uint64(st.Dev), Inode: st.Ino}, nil
}

// maxInitThreads is more than runc's first process ever has.
const maxInitThreads = 64

// AwaitsStart reports whether a container's first process waits in its exec FIFO for the
// runtime to start it: the runtime's set-up is over then, and nothing of the container
// has run. runc opens the FIFO by one of its descriptors, /proc/self/fd/N, and hangs in
// open(2); crun has the FIFO open, and hangs in select(2). The caller checks that the pid
// is still of the same process.
func AwaitsStart(pid int, fifo procfs.FileID) bool {
	threads, err := procfs.Threads(pid, maxInitThreads)
	if err != nil {
		return false
	}
	for _, thread := range threads {
		call, err := procfs.BlockedIn(pid, thread)
		if err != nil {
			continue
		}
		if fd, ok := awaited(pid, call); ok {
			at, err := procfs.Stat(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
			if err == nil && at == fifo {
				return true
			}
		}
	}
	return false
}

// maxDescriptors is more than a first process has that is not started.
const maxDescriptors = 1024

// IsOpen reports whether a process has a descriptor of a container's exec FIFO. Its
// first process has one from the beginning, and none any more when it executes the
// container's program: so it isn't started yet.
func IsOpen(pid int, fifo procfs.FileID) bool {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxDescriptors)
	for _, name := range names {
		// By its text first: to stat(2) what a user serves may take for ever.
		name = path.Join(dir.Name(), name)
		if text, err := os.Readlink(name); err != nil || !strings.Contains(text, Name) {
			continue
		}
		if at, err := procfs.Stat(unix.AT_FDCWD, name); err == nil && at == fifo {
			return true
		}
	}
	return false
}

// awaited returns the descriptor that a system call waits for, or opens again.
func awaited(pid int, call procfs.Call) (fd int, ok bool) {
	switch call.Number {
	case unix.SYS_OPENAT, unix.SYS_OPENAT2:
		return opened(pid, call.Arguments[1])
	case sysOpen:
		return opened(pid, call.Arguments[0])
	case unix.SYS_PSELECT6, sysSelect:
		return int(call.Arguments[0]) - 1, true // the highest descriptor, of one
	case unix.SYS_READ:
		return int(call.Arguments[0]), true
	}
	return 0, false
}

// opened returns the descriptor that a path such as /proc/self/fd/N names.
func opened(pid int, address uint64) (fd int, ok bool) {
	memory, err := procfs.OpenMemory(pid)
	if err != nil {
		return 0, false
	}
	defer memory.Close()
	const longest = 256
	name, err := memory.String(address, longest)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(path.Base(name), 10, 31)
	return int(n), err == nil
}
