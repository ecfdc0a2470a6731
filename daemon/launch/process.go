package launch

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cima-project/cima/daemon/procfs"
)

// Process is a running process of the host, as the kernel shows it.
type Process struct {
	PID   int
	Start uint64 // clock ticks since boot; with PID it names the process
	UID   uint32 // who it runs as; a user's own root is not 0 here
	Unit  string // systemd's system unit that it belongs to, "" where it is in none
	Path  string // of its executable
	dir   string
}

// maxArguments bounds what is read of a command line.
const maxArguments = 32 << 10

// Processes lists the processes below proc ("/proc") that run an executable
// and are in this pid namespace's own root: those of containers are not among
// them. What ends meanwhile is passed over.
func Processes(proc string) ([]Process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	root, err := os.Readlink(filepath.Join(proc, "self/ns/pid"))
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p := Process{PID: pid, dir: filepath.Join(proc, e.Name())}
		if ns, err := os.Readlink(filepath.Join(p.dir, "ns/pid")); err != nil || ns != root {
			continue
		}
		info, err := os.Stat(p.dir)
		if err != nil {
			continue
		}
		p.UID = info.Sys().(*syscall.Stat_t).Uid
		if p.Path, err = os.Readlink(filepath.Join(p.dir, "exe")); err != nil {
			continue // a kernel thread, or gone
		}
		if p.Start, err = startTicks(filepath.Join(p.dir, "stat")); err != nil {
			continue
		}
		p.Unit = processUnit(filepath.Join(p.dir, "cgroup"))
		all = append(all, p)
	}
	return all, nil
}

func startTicks(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return procfs.StartTicks(string(text))
}

// processUnit is the service or scope of the system's manager: the first one
// below system.slice. What users' managers call their own is theirs.
func processUnit(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		_, below, ok := strings.Cut(strings.TrimSpace(line), ":/system.slice/")
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(below, "/") {
			if strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope") {
				return name
			}
		}
	}
	return ""
}

// ErrGone says that a process ended before it could be measured.
var ErrGone = errors.New("the process ended")

// Measure hashes the bytes of the executable that runs, whatever has its name
// by now, and reads the arguments.
func (p Process) Measure() (sha384 string, arguments []Text, err error) {
	f, err := os.Open(filepath.Join(p.dir, "exe"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, ErrGone
	}
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	h := sha512.New384()
	n, err := io.Copy(h, io.LimitReader(f, maxExecutable+1))
	if err == nil && n > maxExecutable {
		err = fmt.Errorf("%s has more than %d bytes", p.Path, maxExecutable)
	}
	if err != nil {
		return "", nil, err
	}
	line, err := os.Open(filepath.Join(p.dir, "cmdline"))
	if err != nil {
		return "", nil, ErrGone
	}
	defer line.Close()
	text, err := io.ReadAll(io.LimitReader(line, maxArguments))
	if err != nil {
		return "", nil, err
	}
	// Hold it to the process again: the pid may have been given away.
	if start, err := startTicks(filepath.Join(p.dir, "stat")); err != nil || start != p.Start {
		return "", nil, ErrGone
	}
	for arg := range strings.SplitSeq(strings.TrimSuffix(string(text), "\x00"), "\x00") {
		arguments = append(arguments, Text(arg))
	}
	return hex.EncodeToString(h.Sum(nil)), arguments, nil
}
