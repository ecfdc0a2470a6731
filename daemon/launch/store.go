package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// Rules say what policy leaves open of a launch.
type Rules struct {
	Environment string   // EnvironmentNames (also if empty), EnvironmentDigest, EnvironmentNone
	Labels      []string // names of labels and annotations that count
}

// How the environment is shown.
const (
	EnvironmentNames  = "names"
	EnvironmentDigest = "digest" // names, and SHA-384 of each value
	EnvironmentNone   = "none"
)

// Store reads records. It may be used from many goroutines.
type Store struct {
	options Options
	trust   Trust

	mu      sync.Mutex // of the two maps
	records map[string]knownRecord
	states  map[string]knownState

	scan  sync.Mutex // of index, held while directories are read
	index index
}

// knownRecord is what was read of a config.json, good or bad, and when.
type knownRecord struct {
	stamp   Stamp
	record  Record
	mounted []mounted // what its binds were found to mount, nil before
}

type knownState struct {
	stamp Stamp
	state state
}

// New makes a Store.
func New(o Options) *Store {
	return &Store{
		options: o.withDefaults(),
		records: map[string]knownRecord{},
		states:  map[string]knownState{},
	}
}

// Declared returns the record that declares exactly this cgroup path, false
// where none does. Records of users count only below their own
// user@UID.service. An error means that a record which may be the one could
// not be read, or that two contradict each other: attribute nothing then.
//
// A path that nobody declares costs a look at a few directories.
func (s *Store) Declared(ctx context.Context, cgroupPath string) (Record, bool, error) {
	cgroupPath = path.Clean(cgroupPath)
	if cgroupPath == "/" || !path.IsAbs(cgroupPath) {
		return Record{}, false, nil
	}
	candidates, err := s.candidates(ctx, cgroupPath)
	if err != nil {
		return Record{}, false, err
	}
	var found Record
	for _, at := range candidates {
		r, err := s.load(ctx, at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && at.names(path.Base(cgroupPath)):
			return Record{}, false, err
		case err != nil, r.CgroupPath != cgroupPath:
		case found.ID != "" && found.ID != r.ID:
			return Record{}, false, fmt.Errorf("containers %s and %s both declare the cgroup %s", found.ID, r.ID, cgroupPath)
		case found.ID == "":
			found = r
		}
	}
	return found, found.ID != "", ctx.Err()
}

// List returns all records of root's there are now, also those of stopped containers
// where the engine keeps them (podman). A bundle that vanishes meanwhile is
// passed over; one that can't be read has Err set. Users' records are not among
// them: their directories could hold up whoever lists them, so a rootless
// container is met when it calls (Declared).
func (s *Store) List(ctx context.Context) ([]Record, error) {
	all, err := s.locations(ctx)
	if err != nil {
		return nil, err
	}
	type key struct {
		uid uint32
		id  string
	}
	seen := map[key]bool{}
	out := make([]Record, 0, len(all))
	for _, at := range all {
		r, err := s.load(ctx, at)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) || seen[key{at.uid, at.id}] {
			continue
		}
		if err != nil {
			r = Record{ID: at.id, Runtime: at.runtime(), Bundle: path.Dir(at.config()), UID: at.uid, Err: err}
			if st, ok, err := s.state(at, at.uid); ok && err == nil {
				r.InitPID, r.InitStart = st.pid, st.start // it may run all the same
			}
		}
		seen[key{at.uid, at.id}] = r.Err == nil
		out = append(out, r)
	}
	return out, nil
}

// load reads the record at a location, from memory where it was not written
// again. Only a record that can be trusted comes without an error.
func (s *Store) load(ctx context.Context, at location) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	r, err := s.bundle(at)
	if err != nil {
		return Record{}, err
	}
	if r.Err != nil {
		return Record{}, r.Err
	}
	st, ok, err := s.state(at, r.UID)
	if err != nil {
		return Record{}, fmt.Errorf("container %s: %w", at.id, err)
	}
	if ok {
		if !st.agrees(r.CgroupPath) {
			return Record{}, fmt.Errorf("container %s: the bundle declares the cgroup %s, the runtime made %s", at.id, r.CgroupPath, st.cgroup)
		}
		if r.CgroupPath == "" {
			r.CgroupPath = ownCgroup(st.cgroup, r.UID)
		}
		r.InitPID, r.InitStart = st.pid, st.start
	}
	return s.judge(r), nil
}

// bundle reads config.json and what it alone tells.
func (s *Store) bundle(at location) (Record, error) {
	file := at.config()
	s.mu.Lock()
	known, ok := s.records[file]
	s.mu.Unlock()
	if ok && unchanged(file, known.stamp, at.uid) {
		return known.record, nil
	}
	limit := int64(maxConfig)
	if at.uid != 0 {
		limit = maxUserConfig
	}
	raw, now, owner, err := s.trust.ReadFile(file, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, err
	}
	if err == nil && owner != at.uid {
		err = fmt.Errorf("%s: %w: belongs to uid %d", file, ErrUntrusted, owner)
	}
	if errors.Is(err, ErrUntrusted) {
		return Record{}, err // not remembered: the directory may be mended
	}
	r := Record{ID: at.id, Runtime: at.runtime(), Bundle: path.Dir(file), UID: owner, Stamp: now}
	if err == nil {
		err = s.understand(&r, raw)
	}
	r.Err = err
	s.mu.Lock()
	s.records[file] = knownRecord{stamp: now, record: r}
	s.mu.Unlock()
	return r, nil
}

// understand fills in a record from its config.json.
func (s *Store) understand(r *Record, raw []byte) error {
	file := r.config()
	c, err := parseSpec(raw)
	if err != nil {
		return fmt.Errorf("%s %w", file, err)
	}
	r.Runtime = managed(c, r.Runtime)
	c.runtime = r.Runtime
	if r.Launch, err = normalise(c, r.ID, s.options.Rules); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if r.CgroupPath, err = cgroupPath(c.Linux.CgroupsPath, r.UID); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r.CgroupPath = ownCgroup(r.CgroupPath, r.UID)
	r.RootPath = c.Root.Path
	if r.RootPath != "" && !path.IsAbs(r.RootPath) {
		r.RootPath = path.Join(r.Bundle, r.RootPath)
	}
	r.Pod, r.sandbox, r.labels = c.pod(), c.sandbox(), s.options.Rules.Labels
	r.search, r.hostRoot = searchPath(c), s.options.HostRoot
	if r.UID != 0 {
		r.Launch.Source = SourceUser
	} else {
		r.joins = joins(c)
		for _, j := range r.joins {
			if hosts, _ := s.host().hostsNamespace(j); hosts {
				r.Launch.Namespaces[j.kind] = host
			}
		}
		r.power = powers(c, r.Launch)
		r.binds, r.storage = binds(c, r.ID, r.Bundle), storageRoot(c.Root.Path)
	}
	r.HostPID = r.Launch.Namespaces["pid"] == host
	return nil
}

// ownCgroup takes a user's word only for cgroups below the user's manager.
func ownCgroup(cgroup string, uid uint32) string {
	if uid != 0 && !strings.HasPrefix(cgroup, userManager(uid)+"/") {
		return ""
	}
	return cgroup
}

// judge adds the classes of power that need more than the bundle.
func (s *Store) judge(r Record) Record {
	if r.UID != 0 {
		return r
	}
	power := slices.Clone(r.power)
	if r.CgroupPath == "" {
		power = append(power, PowerNoCgroup)
	}
	for name := range strings.SplitSeq(path.Dir(r.CgroupPath), "/") {
		if id := hexID(name); id != "" && id != r.ID && id != r.sandbox && s.isContainer(id) {
			power = append(power, PowerCgroupParent)
		}
	}
	r.power = sorted(power)
	return r
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// forget drops what is remembered of files that are gone.
func (s *Store) forget(live map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.records, func(file string, _ knownRecord) bool { return !live[file] })
	if len(s.states) > 2*len(live)+64 {
		clear(s.states)
	}
}
