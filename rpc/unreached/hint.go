// Package unreached answers: why is nobody reached at this path, and what helps?
//
// It looks at files alone, from where the program is.
package unreached

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// adminDir and adminName are the names of the admin socket and its directory.
const (
	adminDir  = "cima-admin"
	adminName = "admin.sock"

	formerName = "cima-server.sock" // CIMA 0.5's, in /run/cima/uds
)

// Hint says why nobody can be reached at a path, as far as it can be seen from here, and
// what to do. usual is where the socket is in a container.
func Hint(path, usual string, err error) string {
	if said := Misplaced(path, usual); said != "" {
		return said
	}
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, syscall.ENOENT):
		if _, err := os.Stat(dir); err != nil {
			return fmt.Sprintf("in a container: mount %s (-v %s:%s:ro); on the host: systemctl start cimad, and cimactl doctor says what is missing", dir, dir, dir)
		}
		return "cimad is not running: systemctl start cimad, on the host; if that changes nothing, cimactl doctor says why"
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Sprintf("%s is no directory, the socket itself perhaps: mount the directory (-v %s:%s:ro)", dir, dir, dir)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Sprintf("SELinux or AppArmor may forbid containers to connect (the audit log says so; try --security-opt label=disable), or %s is not for this user", path)
	case errors.Is(err, syscall.ECONNREFUSED) && mountedAlone(path):
		return fmt.Sprintf("the socket %s is mounted by itself, and went stale when cimad restarted: mount the directory instead (-v %s:%s:ro)", path, dir, dir)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nobody listens: systemctl status cimad; a container mounts the directory %s, for a socket mounted by itself goes stale with each restart", dir)
	case errors.Is(err, syscall.EAGAIN):
		return "more connections wait than the kernel queues: try again, and look for who makes them"
	case errors.Is(err, syscall.EINVAL):
		return "the path of a Unix socket has at most 107 bytes"
	}
	return "see systemctl status cimad"
}

// Misplaced names the mistake where something else than a socket lies at the path, or
// the socket that lies beside it is another; "" is none that can be seen.
func Misplaced(path, usual string) string {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	info, err := os.Stat(path)
	plain, isURL := strings.CutPrefix(path, "unix:")
	switch {
	case errors.Is(err, fs.ErrNotExist) && name == formerName:
		return fmt.Sprintf("%s was CIMA 0.5's socket: name %s, and mount its directory (-v %s:%s:ro)", path, usual, filepath.Dir(usual), filepath.Dir(usual))
	case errors.Is(err, fs.ErrNotExist) && isURL:
		return fmt.Sprintf("a socket is a path, without unix: before it: %s", filepath.Clean(plain))
	case err == nil && info.IsDir() && isSocket(filepath.Join(path, filepath.Base(usual))):
		return fmt.Sprintf("%s is a directory: the socket in it is %s", path, filepath.Join(path, filepath.Base(usual)))
	case err == nil && info.IsDir() && filepath.Ext(name) == ".sock":
		return fmt.Sprintf("%s is a directory: an engine makes one where the socket to mount isn't there; mount the directory with the socket (-v %s:%s:ro)", path, dir, dir)
	case err == nil && info.IsDir():
		return fmt.Sprintf("%s is a directory: a socket must be named", path)
	case err == nil && info.Mode()&fs.ModeSocket == 0:
		return fmt.Sprintf("%s is a file, and no socket", path)
	case errors.Is(err, fs.ErrNotExist) && name != adminName && isSocket(filepath.Join(dir, adminName)):
		return fmt.Sprintf("%s has the admin socket, which is for root on the host: a container mounts %s", dir, filepath.Dir(usual))
	case errors.Is(err, fs.ErrNotExist) && filepath.Base(dir) == adminDir:
		return fmt.Sprintf("%s is the directory of the admin socket, which is for root on the host: a container mounts %s", dir, filepath.Dir(usual))
	}
	return ""
}

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

// mountedAlone reports whether the path itself is a mount (Linux, proc_pid_mountinfo(5)).
func mountedAlone(path string) bool {
	text, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && isMount(string(text), path)
}

func isMount(mountinfo, path string) bool {
	for line := range strings.Lines(mountinfo) {
		if at := strings.Fields(line); len(at) > 4 && at[4] == path {
			return true
		}
	}
	return false
}
