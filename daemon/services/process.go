// Package services answers: which services of the host run?
//
// It lists the processes outside containers, and measures the bytes of an
// executable that runs.
package services

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

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/procfs"
)

// process is a running process of the host, as the kernel shows it.
type process struct {
	pid   int
	start uint64 // clock ticks since boot; together with PID it names the process
	uid   uint32 // of the user that it runs as; root of a user namespace is not 0 here
	unit  string // systemd's system unit that it belongs to, "" where it belongs to none
	path  string // of its executable
	dir   string
}

// Bounds of what is read of a process.
const (
	maxProgram   = 256 << 20 // bytes of its executable
	maxArguments = 32 << 10  // bytes of its command line
)

// processes lists the processes below proc ("/proc") that run an executable and are
// in the daemon's pid namespace itself: those of containers are not among them. A
// process that ends meanwhile is left out.
func processes(proc string) ([]process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	root, err := os.Readlink(filepath.Join(proc, "self/ns/pid"))
	if err != nil {
		return nil, err
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p := process{pid: pid, dir: filepath.Join(proc, e.Name())}
		if ns, err := os.Readlink(filepath.Join(p.dir, "ns/pid")); err != nil || ns != root {
			continue
		}
		info, err := os.Stat(p.dir)
		if err != nil {
			continue
		}
		p.uid = info.Sys().(*syscall.Stat_t).Uid
		if p.path, err = os.Readlink(filepath.Join(p.dir, "exe")); err != nil {
			continue // a kernel thread, or gone
		}
		if p.start, err = startTicks(filepath.Join(p.dir, "stat")); err != nil {
			continue
		}
		p.unit = processUnit(filepath.Join(p.dir, "cgroup"))
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

// processUnit returns the service or scope of the system's manager: the first one
// below system.slice. Units of users' managers don't count.
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

// errGone says that a process ended before it could be measured.
var errGone = errors.New("the process ended")

// measure returns SHA-384, in hex, of the executable that runs, though another file
// may have its name by now, and the arguments.
func (p process) measure() (sha384 string, arguments []launch.Text, err error) {
	f, err := os.Open(filepath.Join(p.dir, "exe"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, errGone
	}
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	h := sha512.New384()
	n, err := io.Copy(h, io.LimitReader(f, maxProgram+1))
	if err == nil && n > maxProgram {
		err = fmt.Errorf("%s has more than %d bytes", p.path, maxProgram)
	}
	if err != nil {
		return "", nil, err
	}
	line, err := os.Open(filepath.Join(p.dir, "cmdline"))
	if err != nil {
		return "", nil, errGone
	}
	defer line.Close()
	text, err := io.ReadAll(io.LimitReader(line, maxArguments))
	if err != nil {
		return "", nil, err
	}
	// Compare the start time again: the pid may have been given to another process.
	if start, err := startTicks(filepath.Join(p.dir, "stat")); err != nil || start != p.start {
		return "", nil, errGone
	}
	for arg := range strings.SplitSeq(strings.TrimSuffix(string(text), "\x00"), "\x00") {
		arguments = append(arguments, launch.Text(arg))
	}
	return hex.EncodeToString(h.Sum(nil)), arguments, nil
}
