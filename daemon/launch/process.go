package launch

import (
	"bytes"
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
)

// Process is a running process of the host, as the kernel shows it.
type Process struct {
	PID   int
	Start string // clock ticks since boot; with PID it names the process
	Unit  string // systemd unit that it belongs to, "" where it is in none
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

// startTicks is field 22 of proc_pid_stat(5), behind the name in parentheses,
// which may hold anything.
func startTicks(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("%s: too short", path)
	}
	return fields[19], nil
}

// processUnit is the deepest service or scope in any of a process's cgroups.
func processUnit(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.Split(strings.TrimSpace(line), "/")
		for i := len(parts) - 1; i > 0; i-- {
			if strings.HasSuffix(parts[i], ".service") || strings.HasSuffix(parts[i], ".scope") {
				return parts[i]
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
	if _, err := io.Copy(h, f); err != nil {
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
