package procfs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrEnded says that a process ended before it was asked about.
var ErrEnded = errors.New("the process has ended")

var errNoPIDFD = errors.New("the process must have a pidfd")

// Alive polls pidfds and returns ErrEnded unless every process lives. What was
// read of a process before Alive returns nil was read of that process, since its
// pid was its own all the while.
func Alive(pidfds ...int) error {
	var space [2]unix.PollFd
	polls := space[:0]
	for _, fd := range pidfds {
		if fd < 0 {
			return errNoPIDFD // poll(2) would ignore it
		}
		polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		n, err := unix.Poll(polls, 0)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll a pidfd: %w", err)
		case n != 0:
			return ErrEnded
		default:
			return nil
		}
	}
}

// Started returns the start time of a process, in clock ticks since boot.
func Started(pid int) (uint64, error) {
	text, err := readSmall(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return StartTicks(text)
}

// StartTicks reads the start time of a process, in clock ticks since boot, from
// the text of its stat file: field 22 of proc_pid_stat(5). Field 2 is the
// program's name in parentheses and may hold anything, parentheses and spaces
// included.
func StartTicks(stat string) (uint64, error) {
	const skip = 22 - 3 // what follows the name starts with field 3
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("stat file: no program name")
	}
	i := 0
	for field := range strings.FieldsSeq(stat[end+1:]) {
		if i == skip {
			ticks, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("stat file: start time %q must be a number", field)
			}
			return ticks, nil
		}
		i++
	}
	return 0, fmt.Errorf("stat file: %d fields behind the name, no start time", i)
}

// Parent returns the parent of a process, which is given as its directory of /proc; 0
// where the parent is in another pid namespace.
func Parent(process string) (int, error) {
	text, err := readText(process + "/status")
	if err != nil {
		return 0, err
	}
	value, found := field(text, "PPid")
	if !found {
		return 0, errors.New("status: there must be a PPid")
	}
	return strconv.Atoi(value)
}

// Cgroups returns the paths of the cgroups of a process, one a hierarchy, as the cgroup
// namespace of this program shows them.
func Cgroups(process string) map[string]bool {
	text, _ := readText(process + "/cgroup")
	out := make(map[string]bool)
	for line := range strings.Lines(text) {
		if fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(fields) == 3 {
			out[fields[2]] = true
		}
	}
	return out
}
