package rpc

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
)

// hint says why nobody can be reached at a path, as far as it can be seen from here, and
// what to do.
func hint(path string, err error) string {
	if said := misplaced(path); said != "" {
		return said
	}
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, syscall.ENOENT):
		if _, err := os.Stat(dir); err != nil {
			return fmt.Sprintf("is %s mounted into this container (-v %s:%s:ro), and cimad installed?", dir, dir, dir)
		}
		return "cimad is not running: systemctl start cimad, on the host; if that changes nothing, cimactl doctor says why"
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

// misplaced names the mistake where something else than a socket lies at the path, or
// the socket that lies beside it is another; "" is none that can be seen.
func misplaced(path string) string {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir() && isSocket(filepath.Join(path, filepath.Base(DefaultSocket))):
		return fmt.Sprintf("%s is a directory: the socket in it is %s", path, filepath.Join(path, filepath.Base(DefaultSocket)))
	case err == nil && info.IsDir() && filepath.Ext(name) == ".sock":
		return fmt.Sprintf("%s is a directory: an engine makes one where the socket to mount isn't there; mount the directory with the socket (-v %s:%s:ro)", path, dir, dir)
	case err == nil && info.IsDir():
		return fmt.Sprintf("%s is a directory: a socket must be named", path)
	case err == nil && info.Mode()&fs.ModeSocket == 0:
		return fmt.Sprintf("%s is a file, and no socket", path)
	case errors.Is(err, fs.ErrNotExist) && name != adminName && isSocket(filepath.Join(dir, adminName)):
		return fmt.Sprintf("%s has the admin socket, which is for root on the host: a container mounts %s", dir, filepath.Dir(DefaultSocket))
	case errors.Is(err, fs.ErrNotExist) && filepath.Base(dir) == adminDir:
		return fmt.Sprintf("%s is the directory of the admin socket, which is for root on the host: a container mounts %s", dir, filepath.Dir(DefaultSocket))
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

// errNotOurs says that somebody answers who is not cimad.
var errNotOurs = errors.New("whoever answers there does not speak JSON-RPC")

// notOurs is the error of a reply that is none of cimad's, or nil: another service's
// socket was named, docker's for example.
func notOurs(path string, reply []byte) error {
	if len(reply) == 0 || reply[0] == '{' {
		return nil
	}
	what := "another service listens there"
	if strings.HasPrefix(string(reply), "HTTP/") {
		what = "an HTTP service listens there, as an engine's API does (docker.sock)"
	}
	return &UnreachableError{Path: path, Err: errNotOurs, Hint: what + ": name cimad's socket, " + DefaultSocket}
}
