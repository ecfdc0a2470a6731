package workload

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
)

const (
	// atOnce is how many look-ups are under way at once. cimad takes 4 calls of one
	// caller at a time; a waiting one holds no connection.
	atOnce = 4

	// ofOne is how many attestations of one origin are under way or wait. Of these one is
	// under way: processes whose look-up takes long hold up their own container's alone.
	ofOne = 256

	// ofAll is how many of all origins are under way or wait. Containers can ask as often
	// as they like, so that one more is refused.
	ofAll = 4096
)

// turns let attestations through. Origins, the container, the unit or the user that a process
// is of as far as its cgroup shows it, take turns: SPIRE's agent asks for all of them, so that
// cimad can't tell one that asks without end from the others.
type turns struct {
	slots chan struct{}

	mu       sync.Mutex
	all      int
	byOrigin map[string]*place
}

// place is where the attestations of one origin wait.
type place struct {
	in   int
	turn chan struct{}
}

func newTurns() *turns {
	return &turns{slots: make(chan struct{}, atOnce), byOrigin: make(map[string]*place)}
}

// Errors of a turn that isn't given.
var (
	errTooMany = errors.New("too many attestations wait for cimad")
	errTooLate = errors.New("cimad has not answered those who asked before")
)

// take waits for a turn of an origin. The caller calls done when it has ended.
func (t *turns) take(ctx context.Context, origin string) (done func(), err error) {
	p := t.enter(origin)
	if p == nil {
		return nil, errTooMany
	}
	for _, wanted := range []chan struct{}{p.turn, t.slots} {
		select {
		case wanted <- struct{}{}:
			continue
		case <-ctx.Done():
		}
		if wanted == t.slots {
			<-p.turn
		}
		t.leave(origin)
		return nil, errTooLate
	}
	return func() {
		<-t.slots
		<-p.turn
		t.leave(origin)
	}, nil
}

// enter counts an attestation, nil where there are too many.
func (t *turns) enter(origin string) *place {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.byOrigin[origin]
	if p == nil {
		p = &place{turn: make(chan struct{}, 1)}
	}
	if p.in >= ofOne || t.all >= ofAll {
		return nil
	}
	t.byOrigin[origin] = p
	p.in++
	t.all++
	return p
}

func (t *turns) leave(origin string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if p := t.byOrigin[origin]; p.in > 1 {
		p.in--
	} else {
		delete(t.byOrigin, origin)
	}
}

// maxCgroup bounds what is read of /proc/PID/cgroup.
const maxCgroup = 64 << 10

// originOf is the origin of the process that has a number now, "" where its cgroup can't be
// read. It gives nobody an identity.
func originOf(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil || len(text) > maxCgroup {
		return ""
	}
	origin := ""
	for line := range strings.Lines(string(text)) {
		// "0::/path" is the unified hierarchy, and comes last.
		if _, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); ok {
			if _, cgroup, ok := strings.Cut(rest, ":"); ok && cgroup != "/" {
				origin = scopeOf(cgroup)
			}
		}
	}
	return origin
}

// scopeOf is the part of a cgroup's path that one user, unit or container has: up to a user's
// slice, else a name with a container's id, else the first unit, else two names. What is below
// it may have been made by whoever is in it.
func scopeOf(cgroup string) string {
	unit, names := 0, 0
	for end := 1; end <= len(cgroup); end++ {
		if end < len(cgroup) && cgroup[end] != '/' {
			continue
		}
		name := cgroup[strings.LastIndexByte(cgroup[:end], '/')+1 : end]
		switch {
		case strings.HasPrefix(cgroup[:end], "/user.slice/user-") && strings.HasSuffix(name, ".slice"):
			return cgroup[:end]
		case strings.HasSuffix(name, ".slice"):
			continue
		case holdsID(name):
			return cgroup[:end]
		}
		names++
		if unit == 0 && (names == 2 || strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope")) {
			unit = end
		}
	}
	if unit == 0 {
		unit = len(cgroup)
	}
	return cgroup[:unit]
}

// holdsID reports whether a name has 64 lower-case hex digits in a row.
func holdsID(name string) bool {
	run := 0
	for i := range len(name) {
		if strings.IndexByte("0123456789abcdef", name[i]) < 0 {
			run = 0
		} else if run++; run == 64 {
			return true
		}
	}
	return false
}
