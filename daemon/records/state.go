package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// maxState bounds the runtime's state file, which repeats parts of config.json.
const maxState = 4 << 20

// state is what the runtime itself noted when it made the container.
type state struct {
	pid    int
	start  uint64
	cgroup string // "" where it does not say
}

// runcState is the part of runc's state.json that counts
// (runc libcontainer/container_linux.go, State).
type runcState struct {
	PID     int               `json:"init_process_pid"`
	Start   uint64            `json:"init_process_start"`
	Cgroups map[string]string `json:"cgroup_paths"`
}

// crunState is crun's status file (crun src/libcrun/status.c).
type crunState struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"process-start-time"`
	Cgroup string `json:"cgroup-path"`
}

func parseState(file string, raw []byte) (state, error) {
	if path.Base(file) == "status" {
		var s crunState
		if err := json.Unmarshal(raw, &s); err != nil {
			return state{}, fmt.Errorf("%s: %w", file, err)
		}
		return state{s.PID, s.Start, s.Cgroup}, nil
	}
	var s runcState
	if err := json.Unmarshal(raw, &s); err != nil {
		return state{}, fmt.Errorf("%s: %w", file, err)
	}
	return state{s.PID, s.Start, actualPath(s.Cgroups)}, nil
}

// state reads the runtime's note of a container, the same owner's as the
// record. There is none before the runtime made the container.
func (s *Store) state(at location, owner uint32) (state, bool, error) {
	for _, pattern := range at.place.States {
		st, ok, err := s.stateFile(at.fill(pattern), owner)
		if ok || err != nil {
			return st, ok, err
		}
	}
	for _, pattern := range at.place.PIDs {
		raw, _, uid, err := s.trust.ReadFile(at.fill(pattern), 32)
		if err != nil || uid != owner {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil && pid > 0 {
			return state{pid: pid}, true, nil
		}
	}
	return state{}, false, nil
}

// stateFile reads one state file, from memory where it has not changed.
func (s *Store) stateFile(file string, owner uint32) (state, bool, error) {
	s.mu.Lock()
	known, ok := s.states[file]
	s.mu.Unlock()
	if ok && unchanged(file, known.stamp, owner) {
		return known.state, true, nil
	}
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return state{}, false, nil // the usual case, without a walk
	}
	raw, now, uid, err := s.trust.ReadFile(file, maxState)
	if err != nil {
		return state{}, false, ignoreMissing(err)
	}
	if uid != owner {
		return state{}, false, fmt.Errorf("%s: %w: belongs to uid %d, the bundle to uid %d", file, ErrUntrusted, uid, owner)
	}
	st, err := parseState(file, raw)
	if err != nil {
		return state{}, false, err
	}
	s.mu.Lock()
	s.states[file] = knownState{now, st}
	s.mu.Unlock()
	return st, true, nil
}

// agrees checks that the runtime put the container where the bundle declares
// it: there, or (crun) in a cgroup below.
func (st state) agrees(declared string) bool {
	return st.cgroup == "" || declared == "" || st.cgroup == declared || strings.HasPrefix(st.cgroup, declared+"/")
}
