package peer

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// Connections are shared out by origin before anything is done for them. An origin is
// less exact than what Identify finds, and much cheaper: no record is read for it, so
// nothing that a user owns can hold it up. All connections of one container have one
// origin, whatever their uids and the cgroups below it, and so have all of a user's.

const (
	// originKept is how long a process's origin is known by its pid. Another process
	// can't get the pid so soon: the kernel gives out all others first.
	originKept = 100 * time.Millisecond

	maxOrigins = 4096 // processes whose origin is known, and containers
)

// nowhere is the origin of processes that are in no cgroup, and in a pid namespace of
// their own. Identify refuses them.
const nowhere = "no cgroup"

// origins are the origins of processes that connected a moment ago, and the cgroups of
// containers that were identified.
type origins struct {
	mu         sync.Mutex
	byPID      map[int32]knownOrigin
	containers map[string]bool // by the path that their record declares
}

type knownOrigin struct {
	uid   uint32
	name  string
	until time.Time
}

// of reports whether a connection of the same process as another uid has the same origin:
// it has, unless the origin is known by the uid alone. Else a process could have itself
// looked up for each connection.
func (k *knownOrigin) of(uid uint32) bool {
	return k.uid == uid || !strings.HasPrefix(k.name, userPrefix)
}

// Origin names where a connection comes from, by the descriptor of its socket. It returns
// false if the process that connected can't be named any more: Identify would refuse it.
func (id *Identifier) Origin(socket int) (string, bool) {
	cred, err := unix.GetsockoptUcred(socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Pid <= 0 {
		return "", false
	}
	now := time.Now()
	if name, ok := id.origins.find(cred, now); ok {
		return name, true
	}
	p, err := id.credentials(socket)
	if err != nil {
		return "", false
	}
	defer unix.Close(p.pidfd)
	name, err := id.originOf(p)
	if err != nil {
		return "", false
	}
	id.origins.add(cred, name, now)
	return name, true
}

// OriginOf is Origin of a connection.
func (id *Identifier) OriginOf(conn *net.UnixConn) (name string, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return "", false
	}
	err = raw.Control(func(socket uintptr) { name, ok = id.Origin(int(socket)) })
	return name, ok && err == nil
}

func (o *origins) find(cred *unix.Ucred, now time.Time) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, ok := o.byPID[cred.Pid]
	return known.name, ok && known.of(cred.Uid) && now.Before(known.until)
}

func (o *origins) add(cred *unix.Ucred, name string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byPID == nil || len(o.byPID) >= maxOrigins {
		o.byPID = make(map[int32]knownOrigin)
	}
	o.byPID[cred.Pid] = knownOrigin{cred.Uid, name, now.Add(originKept)}
}

// learn remembers the cgroup of a container that was identified.
func (o *origins) learn(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.containers[path] {
		return
	}
	if o.containers == nil || len(o.containers) >= maxOrigins {
		o.containers = make(map[string]bool)
	}
	o.containers[path] = true
}

// container returns the cgroup of the container that a path lies in, "" if none was
// identified there. The longest counts, as in match.
func (o *origins) container(path string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if o.containers[path[:end]] {
			return path[:end]
		}
	}
	return ""
}

func (id *Identifier) originOf(p connector) (string, error) {
	text, err := id.cgroupsOf(p.pid)
	if err != nil {
		return "", err
	}
	hs, err := parseCgroup(text)
	if err != nil {
		return nowhere, nil // the process has left the daemon's cgroup namespace
	}
	name := id.origins.of(hs, p.uid)
	if name == "" {
		ns, err := id.pidNSOf(p.pid, p.pidfd)
		switch {
		case err != nil:
			return "", err
		case ns != id.ownNS:
			name = nowhere
		default:
			name = userOrigin(id.users.of(p.uid, ""))
		}
	}
	// The process lives after the last read, so what was read is its own.
	return name, procfs.Alive(p.pidfd)
}

const userPrefix = "uid "

func userOrigin(uid uint32) string { return userPrefix + strconv.FormatUint(uint64(uid), 10) }

// of names the origin of a process by its cgroups: the user whose slice it is in, or the
// container or unit. It is "" if the process is in the root of each hierarchy.
func (o *origins) of(hs []hierarchy, uid uint32) string {
	var first hierarchy
	for _, h := range hs {
		if h.path != "/" && (first.path == "" || before(h, first)) {
			first = h
		}
	}
	if first.path == "" {
		return ""
	}
	scope, container := o.container(first.path), true
	if scope == "" {
		scope, container = scopeOf(first.path)
	}
	// Root in a user's session (sudo) is root, and root in a container is not.
	if owner, ok := ofSlice(systemdPath(hs)); ok && (uid != 0 || container) {
		return "user " + strconv.FormatUint(uint64(owner), 10)
	}
	return scope
}

// scopeOf guesses the part of a cgroup's path that belongs to one container or unit, until
// one was identified there: up to the first name that holds a container's id, else up to
// the first unit, else two names ("/default/web", of containerd's cgroups). Slices hold
// many of them. container is whether it has an id.
func scopeOf(path string) (scope string, container bool) {
	unit, names := 0, 0
	for end := 1; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		name := path[strings.LastIndexByte(path[:end], '/')+1 : end]
		if strings.HasSuffix(name, ".slice") {
			continue
		}
		if holdsID(name) {
			return path[:end], true
		}
		names++
		if unit == 0 && (names == 2 || strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope")) {
			unit = end
		}
	}
	if unit == 0 {
		unit = len(path)
	}
	return path[:unit], false
}
