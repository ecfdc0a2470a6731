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

// state is what the runtime wrote down when it made the container.
type state struct {
	pid    int
	start  uint64
	cgroup string // "" where the file has none
	dir    string // of the file; "" where it is a pid file
}

// runcState is the part of interest in runc's state.json
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
		return state{s.PID, s.Start, s.Cgroup, path.Dir(file)}, nil
	}
	var s runcState
	if err := json.Unmarshal(raw, &s); err != nil {
		return state{}, fmt.Errorf("%s: %w", file, err)
	}
	return state{s.PID, s.Start, actualPath(s.Cgroups), path.Dir(file)}, nil
}

// readState reads the runtime's state of a container. The owner of the record must own
// the file too. There is none before the runtime made the container.
func (s *Store) readState(at location, owner uint32) (state, bool, error) {
	for _, pattern := range at.place.States {
		st, ok, err := s.readStateFile(at.fill(pattern), owner)
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

// readStateFile reads one state file, from memory where the file has not changed.
func (s *Store) readStateFile(file string, owner uint32) (state, bool, error) {
	s.mu.Lock()
	known, ok := s.states[file]
	s.mu.Unlock()
	if ok && unchanged(file, known.stamp, owner) {
		return known.state, true, nil
	}
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return state{}, false, nil // the usual case, without opening each directory
	}
	raw, now, uid, err := s.trust.ReadFile(file, maxState)
	if err != nil {
		return state{}, false, ignoreMissing(err)
	}
	if uid != owner {
		return state{}, false, fmt.Errorf("%s: %w: uid %d owns it, and uid %d, which owns the bundle, must", file, errUntrusted, uid, owner)
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

// agrees reports whether the runtime put the container into the cgroup that the bundle
// declares, or (crun) into one below.
func (st state) agrees(declared string) bool {
	return st.cgroup == "" || declared == "" || st.cgroup == declared || strings.HasPrefix(st.cgroup, declared+"/")
}
