package peer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a process that was seen to live after its /proc directory was
// opened: what is read through that directory is told of it and no other.
type process struct {
	pidfd int
	dir   int // O_PATH of /proc/PID
}

// errEnded says that a process ended while it was looked at.
var errEnded = errors.New("the process has ended")

// openProcess opens /proc/PID of the process that pidfd stands for. The order
// is the proof: the pid is the process's own for as long as it lives, it lives
// after the directory was opened, so the directory is the process's. pidfd
// stays the caller's to close.
func openProcess(proc, pid, pidfd int) (process, error) {
	dir, err := unix.Openat(proc, strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return process{}, fmt.Errorf("open /proc/%d: %w", pid, ended(err))
	}
	if err := alive(pidfd); err != nil {
		unix.Close(dir)
		return process{}, err
	}
	return process{pidfd: pidfd, dir: dir}, nil
}

func (p process) closeDir() { unix.Close(p.dir) }

// alive polls pidfds and returns errEnded unless every process lives.
func alive(pidfds ...int) error {
	var space [2]unix.PollFd
	polls := space[:0]
	for _, fd := range pidfds {
		polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		n, err := unix.Poll(polls, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll a pidfd: %w", err)
		case n != 0:
			return errEnded
		default:
			return nil
		}
	}
}

// ended makes errEnded of the errors by which /proc says so.
func ended(err error) error {
	if err == unix.ESRCH || err == unix.ENOENT {
		return errEnded
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

// readAll reads a /proc file in one read, so that the kernel writes it in one
// go: a file put together from several reads may never have been true.
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
			return "", fmt.Errorf("%d bytes or more, the limit is %d", n, maxCgroupFile)
		}
	}
}

// pids returns how many pid namespaces, from /proc's own down, give the
// process a pid.
func (p process) pids() (int, error) {
	text, err := p.read("status")
	if err != nil {
		return 0, err
	}
	return countNSpid(text)
}

// countNSpid counts the pids in the NSpid line of proc_pid_status(5).
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

// started returns the process's start time in clock ticks since boot.
func (p process) started() (uint64, error) {
	text, err := p.read("stat")
	if err != nil {
		return 0, err
	}
	return startTime(text)
}

// startTime returns field 22 of proc_pid_stat(5). Field 2 is the program's
// name in parentheses and may hold anything, parentheses and spaces included.
func startTime(text string) (uint64, error) {
	const skip = 22 - 3 // what follows the name starts with field 3
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return 0, errors.New("stat file: no program name")
	}
	i := 0
	for field := range strings.FieldsSeq(text[end+1:]) {
		if i == skip {
			ticks, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("stat file: start time %q", field)
			}
			return ticks, nil
		}
		i++
	}
	return 0, fmt.Errorf("stat file: %d fields behind the name, no start time", i)
}
