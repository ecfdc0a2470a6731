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

	"github.com/cima-project/cima/daemon/trust"
)

// maxState bounds the runtime's state file, which repeats parts of config.json.
const maxState = 4 << 20

// state is what the runtime wrote down when it made the container.
type state struct {
	pid   int
	start uint64
	made  map[string]string // the container's cgroup, by controller; nil where the file has none
	of    string            // the bundle that it was made of; "" where the file has none
	root  uint32            // the host's uid of its root; 0 where the file has none
	dir   string            // of the file; "" where it is a pid file
}

// runcState is the part of interest in runc's state.json
// (runc libcontainer/container_linux.go, State).
type runcState struct {
	PID     int               `json:"init_process_pid"`
	Start   uint64            `json:"init_process_start"`
	Cgroups map[string]string `json:"cgroup_paths"`
	Config  struct {
		Labels []string `json:"labels"` // NAME=VALUE
		UIDs   []struct {
			Container uint32 `json:"container_id"`
			Host      uint32 `json:"host_id"`
		} `json:"uid_mappings"`
	} `json:"config"`
}

// crunState is crun's status file (crun src/libcrun/status.c).
type crunState struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"process-start-time"`
	Cgroup string `json:"cgroup-path"` // in all hierarchies
	Bundle string `json:"bundle"`
}

func parseState(file string, raw []byte) (state, error) {
	if path.Base(file) == "status" {
		var s crunState
		if err := json.Unmarshal(raw, &s); err != nil {
			return state{}, fmt.Errorf("%s: %w", file, err)
		}
		st := state{pid: s.PID, start: s.Start, of: s.Bundle, dir: path.Dir(file)}
		if s.Cgroup != "" {
			st.made = map[string]string{"": path.Clean("/" + s.Cgroup)}
		}
		return st, nil
	}
	var s runcState
	if err := json.Unmarshal(raw, &s); err != nil {
		return state{}, fmt.Errorf("%s: %w", file, err)
	}
	st := state{pid: s.PID, start: s.Start, made: madePaths(s.Cgroups), dir: path.Dir(file)}
	for _, label := range s.Config.Labels {
		if bundle, ok := strings.CutPrefix(label, "bundle="); ok {
			st.of = bundle // the last one is runc's own; annotations come before it
		}
	}
	for _, m := range s.Config.UIDs {
		if m.Container == 0 {
			st.root = m.Host
		}
	}
	return st, nil
}

// readState reads the runtime's state of a container. The owner of the record must own
// the file too. There is none before the runtime made the container.
func (s *Store) readState(at location, owner uint32) (state, bool, error) {
	for _, pattern := range at.place.States {
		st, ok, err := s.readStateFile(at.fill(pattern), owner)
		if err != nil || ok && (st.of == "" || st.of == path.Dir(at.config())) {
			return st, ok, err // else it is of another container with this id
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
	if ok && trust.Unchanged(file, known.stamp, owner) {
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
		return state{}, false, fmt.Errorf("%s: %w: uid %d owns it, and uid %d, which owns the bundle, must", file, trust.ErrUntrusted, uid, owner)
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
