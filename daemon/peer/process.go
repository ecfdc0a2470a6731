package peer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// process is a process that was seen to live after its /proc directory was opened:
// what is read through that directory is of this process and no other.
type process struct {
	pidfd int
	dir   int // O_PATH of /proc/PID
}

// openProcess opens /proc/PID of the process of pidfd. The order is the proof: the
// process lives after the directory was opened, and no other process has its pid as
// long as it lives, so the directory is its own. The caller closes pidfd.
func openProcess(proc, pid, pidfd int) (process, error) {
	dir, err := unix.Openat(proc, strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return process{}, fmt.Errorf("open /proc/%d: %w", pid, ended(err))
	}
	if err := procfs.Alive(pidfd); err != nil {
		unix.Close(dir)
		return process{}, err
	}
	return process{pidfd: pidfd, dir: dir}, nil
}

func (p process) closeDir() { unix.Close(p.dir) }

// ended returns procfs.ErrEnded for the errors that /proc returns for a process that
// has ended.
func ended(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return procfs.ErrEnded
	}
	return err
}

// open opens a file of /proc/PID for reading.
func (p process) open(name string) (int, error) {
	fd, err := unix.Openat(p.dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s of the process: %w", name, ended(err))
	}
	return fd, nil
}

// read returns a file of /proc/PID.
func (p process) read(name string) (string, error) {
	fd, err := p.open(name)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text, err := readAll(fd)
	if err != nil {
		return "", fmt.Errorf("read %s of the process: %w", name, err)
	}
	return text, nil
}

// readAll reads a /proc file in one read, so that the kernel writes it at one moment:
// the parts of several reads may never have been true together.
func readAll(fd int) (string, error) {
	var small [4096]byte
	for buf := small[:]; ; buf = make([]byte, 4*len(buf)) {
		n, err := unix.Pread(fd, buf, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", ended(err)
		case n < len(buf):
			return string(buf[:n]), nil
		case n >= maxCgroupFile:
			return "", fmt.Errorf("%d bytes or more, must be below %d", n, maxCgroupFile)
		}
	}
}

// countNSpid counts the pids in the NSpid line of proc_pid_status(5): in how many pid
// namespaces, from that of /proc down, the process has a pid.
func countNSpid(text string) (int, error) {
	count := 0
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "NSpid:")
		if !ok {
			continue
		}
		if count != 0 {
			return 0, errors.New("status file: two NSpid lines")
		}
		for _, field := range strings.Fields(rest) {
			if pid, err := strconv.ParseInt(field, 10, 32); err != nil || pid <= 0 {
				return 0, fmt.Errorf("status file: NSpid %q", field)
			}
			count++
		}
		if count == 0 || count > maxPIDNamespaces+1 {
			return 0, fmt.Errorf("status file: NSpid with %d pids", count)
		}
	}
	if count == 0 {
		return 0, errors.New("status file: no NSpid line; pid namespaces need Linux 4.1 and CONFIG_PID_NS")
	}
	return count, nil
}

// uidsOf returns the effective uid in the Uid line of proc_pid_status(5), and whether one
// of the others (real, saved, of the file system) is another user's.
func uidsOf(text string) (effective uint32, differ bool, err error) {
	found := false
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, "Uid:")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if found || len(fields) != 4 {
			return 0, false, errors.New("status file: must have one Uid line, of four uids")
		}
		found = true
		for i, field := range fields {
			uid, err := strconv.ParseUint(field, 10, 32)
			if err != nil {
				return 0, false, fmt.Errorf("status file: uid %q", field)
			}
			if i == 1 {
				effective = uint32(uid)
			}
			differ = differ || field != fields[0]
		}
	}
	if !found {
		return 0, false, errors.New("status file: no Uid line")
	}
	return effective, differ, nil
}

// started returns the process's start time in clock ticks since boot.
func (p process) started() (uint64, error) {
	text, err := p.read("stat")
	if err != nil {
		return 0, err
	}
	return procfs.StartTicks(text)
}
