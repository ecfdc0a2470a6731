package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Call is a system call in which a thread is blocked.
type Call struct {
	Number    uint64
	Arguments [6]uint64
}

// errNotBlocked says that a thread is blocked in no system call: it runs.
var errNotBlocked = errors.New("the thread is not blocked in a system call")

// BlockedIn reads the system call in which a thread is blocked
// (proc_pid_syscall(5)). The kernel asks for the rights of ptrace(2) to attach.
func BlockedIn(pid, thread int) (Call, error) {
	text, err := readSmall(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, thread))
	if err != nil {
		return Call{}, err
	}
	return parseCall(text)
}

// parseCall reads a line such as "257 0xffffff9c 0xc0 0x80001 0x0 0x0 0x0 0xc8 0x40".
// The last two numbers are the stack's pointer and the program's.
func parseCall(line string) (Call, error) {
	fields := strings.Fields(line)
	if len(fields) != 9 {
		return Call{}, errNotBlocked // "running", or "-1" and the two pointers
	}
	var c Call
	var err error
	if c.Number, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return Call{}, fmt.Errorf("syscall file: number: %w", err)
	}
	for i := range c.Arguments {
		if c.Arguments[i], err = strconv.ParseUint(fields[i+1], 0, 64); err != nil {
			return Call{}, fmt.Errorf("syscall file: argument: %w", err)
		}
	}
	return c, nil
}

// EffectiveUID reads the effective user of a process, as proc_pid_status(5) has it. The
// owner of /proc/PID isn't it where the process is not dumpable.
func EffectiveUID(pid int) (uint32, error) {
	text, err := readSmall(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseEffectiveUID(text)
}

// parseEffectiveUID reads the second number of a line such as "Uid:\t0\t1000\t0\t0". A
// program can put no line before it: the kernel escapes the name.
func parseEffectiveUID(status string) (uint32, error) {
	_, line, _ := strings.Cut(status, "\nUid:\t")
	line, _, whole := strings.Cut(line, "\n")
	fields := strings.Fields(line)
	if !whole || len(fields) != 4 {
		return 0, errors.New("status file: no user")
	}
	uid, err := strconv.ParseUint(fields[1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("status file: user: %w", err)
	}
	return uint32(uid), nil
}

// readSmall reads the beginning of a file of /proc.
func readSmall(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var b [1024]byte
	n, err := f.Read(b[:])
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return string(b[:n]), nil
}

// Threads lists the threads of a process. It fails where there are more than most.
func Threads(pid, most int) ([]int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(most + 1)
	if err != nil {
		return nil, err
	}
	if len(names) > most {
		return nil, fmt.Errorf("process %d has more than %d threads", pid, most)
	}
	threads := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			threads = append(threads, n)
		}
	}
	return threads, nil
}

// Memory is the memory of a process (proc_pid_mem(5)).
type Memory struct{ f *os.File }

// OpenMemory opens the memory of a process for reading. The kernel asks for the
// rights of ptrace(2) to attach. The memory stays the same when the process executes
// another program: reads fail then.
func OpenMemory(pid int) (Memory, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	return Memory{f}, err
}

// Close closes the memory.
func (m Memory) Close() { m.f.Close() }

// Read fills b from an address on.
func (m Memory) Read(address uint64, b []byte) error {
	n, err := m.readSome(address, b)
	if err == nil && n < len(b) {
		err = unix.EFAULT
	}
	return err
}

// readSome reads what is mapped of len(b) bytes.
func (m Memory) readSome(address uint64, b []byte) (int, error) {
	if int64(address) < 0 {
		return 0, unix.EFAULT // the kernel's half
	}
	n, err := unix.Pread(int(m.f.Fd()), b, int64(address))
	if err == nil && n == 0 {
		err = ErrEnded // its memory is gone
	}
	return max(n, 0), err
}

// String reads the bytes up to a zero byte. It fails where there are more than most.
func (m Memory) String(address uint64, most int) (string, error) {
	const page = 4096
	var text []byte
	for {
		// To the end of the page: the next one may not be mapped.
		b := make([]byte, page-address%page)
		n, err := m.readSome(address, b)
		if err != nil {
			return "", err
		}
		end := bytes.IndexByte(b[:n], 0)
		if end < 0 {
			end = n
		}
		if text = append(text, b[:end]...); len(text) > most {
			return "", fmt.Errorf("a string has more than %d bytes", most)
		}
		if end < n {
			return string(text), nil
		}
		address += uint64(n)
	}
}
