// Package records answers: which container has which cgroup?
//
// A Record is what a container engine, running as root, wrote down before it started
// a container: the OCI bundle's config.json and the runtime's own state file. A Store
// finds the record that declares a cgroup path, lists all records, and measures the
// files that a container executes first.
//
// A record counts as root's only if root owns every directory down to its file, and
// nobody else can write there (Trust). Nothing here asks the container or the engine.
package records

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/abandon"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/storage"
	"github.com/cima-project/cima/daemon/trust"
	"github.com/cima-project/cima/logs"
)

// maxUserConfig bounds a user's config.json, which root parses.
const maxUserConfig = 256 << 10

// Store reads records. It may be used from many goroutines.
type Store struct {
	options Options
	trust   trust.Trust
	storage *storage.Reader

	subordinate *trust.SubUIDs    // who may act as the root of a container's user namespace
	isUser      func(uint32) bool // whether the host has a user with this uid

	calls abandon.Calls // on files of containers and users

	mu      sync.Mutex // of the two maps
	records map[string]knownRecord
	states  map[string]knownState

	scan  sync.Mutex // of index, held while directories are read
	index index
}

// knownRecord is what was read of a config.json, good or bad, and when.
type knownRecord struct {
	stamp  trust.Stamp
	record Record
}

type knownState struct {
	stamp trust.Stamp
	state state
}

// New makes a Store.
func New(o Options) *Store {
	return &Store{
		options: o.withDefaults(),
		storage: &storage.Reader{},

		subordinate: &trust.SubUIDs{File: "/etc/subuid"},
		isUser:      isUser,

		records: map[string]knownRecord{},
		states:  map[string]knownState{},
	}
}

// Declared returns the record of the container that has exactly this cgroup in a
// hierarchy, and false where none has. A hierarchy is named as /proc/PID/cgroup names it:
// by its controllers, or "" for the unified one. Records of users count only below their
// own user@UID.service. An error means that a record which may be the container's can't
// be read, or that two records contradict each other: attribute nothing then. Without an
// error the answer holds for each hierarchy if Record.Hierarchy is empty, also where no
// record is found.
//
// A path that is no container's costs a stat(2) of a few directories.
func (s *Store) Declared(ctx context.Context, hierarchy, cgroupPath string) (Record, bool, error) {
	cgroupPath = path.Clean(cgroupPath)
	if cgroupPath == "/" || !path.IsAbs(cgroupPath) {
		return Record{}, false, nil
	}
	candidates, err := s.candidates(ctx, cgroupPath)
	if err != nil {
		return Record{}, false, err
	}
	var found Record
	differs := false // a candidate has other cgroups in other hierarchies
	var broken error // it is refused only if no good record has the cgroup: a bad one must not hide another's
	for _, at := range candidates {
		r, err := s.load(ctx, at)
		differs = differs || r.Hierarchy != ""
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			broken = cmp.Or(broken, err)
		case r.CgroupIn(hierarchy) != cgroupPath:
		case found.Name != "" && (found.Name != r.Name || found.UID != r.UID):
			return Record{}, false, fmt.Errorf("containers %s and %s both have the cgroup %s", found.Name, r.Name, cgroupPath)
		case found.Name == "":
			found = r
		}
	}
	if differs {
		found.Hierarchy = hierarchy
	}
	if err := ctx.Err(); err != nil || found.Name != "" {
		return found, err == nil, err
	}
	return found, false, broken
}

// List returns all records of root's, also those of stopped containers where the
// engine keeps them (podman). A bundle that vanishes meanwhile is left out; one that
// can't be read has Err set. Users' records are not listed, since a user could make a
// directory that hangs: a rootless container is found when it calls (Declared).
func (s *Store) List(ctx context.Context) ([]Record, error) {
	all, err := s.locations(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{} // by name
	out := make([]Record, 0, len(all))
	for _, at := range all {
		r, err := s.load(ctx, at)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		name := s.name(at)
		if errors.Is(err, fs.ErrNotExist) || seen[name] {
			continue
		}
		if err != nil {
			r = Record{ID: at.id, Name: name, Runtime: at.runtime(), Bundle: path.Dir(at.config()), UID: at.uid, Err: err}
			if st, ok, err := s.readState(at, at.uid); ok && err == nil {
				r.InitPID, r.InitStart, r.StateDir = st.pid, st.start, st.dir // the container may run nevertheless
			}
		}
		seen[name] = r.Err == nil
		out = append(out, r)
	}
	return out, nil
}

// load reads the record at a location; its config.json is read again only if the file
// has changed. It returns an error for a record that can't be trusted. A user may have a
// record in a file system that hangs: such a call is abandoned.
func (s *Store) load(ctx context.Context, at location) (Record, error) {
	if at.uid == 0 {
		return s.read(ctx, at)
	}
	ctx, cancel := context.WithTimeout(ctx, userTimeout)
	defer cancel()
	return abandon.Do(ctx, &s.calls, fmt.Sprint("uid ", at.uid), func() (Record, error) { return s.read(ctx, at) })
}

// userTimeout bounds how long a user's record is read.
const userTimeout = 2 * time.Second

func (s *Store) read(ctx context.Context, at location) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	r, err := s.readBundle(ctx, at)
	if err != nil {
		return Record{}, err
	}
	if r.Err != nil {
		return Record{}, r.Err
	}
	if err := s.checkID(at); err != nil {
		return Record{}, err
	}
	r.Name = at.name()
	st, ok, err := s.readState(at, r.UID)
	if err == nil && ok {
		err = r.settle(st)
	}
	if err != nil {
		return Record{}, fmt.Errorf("container %s: %w", r.Name, err)
	}
	judged := r.CgroupPath
	if judged == "" {
		judged = r.details.cgroup.judged()
	}
	r.details.power = r.details.power.InCgroup(judged, s.isContainer)
	return r, nil
}

// settle fills in what the runtime noted.
func (r *Record) settle(st state) error {
	if r.details.mapped != 0 && st.root != 0 && st.root != r.details.mapped {
		return fmt.Errorf("uid %d owns the bundle's directory, and the runtime made uid %d the container's root", r.details.mapped, st.root)
	}
	r.InitPID, r.InitStart, r.StateDir = st.pid, st.start, st.dir
	at, err := r.details.cgroup.settle(st.made, r.ID)
	if r.UID != 0 {
		at = settled{path: ownCgroup(at.path, r.UID)}
	}
	r.CgroupPath, r.Hierarchy, r.details.byController = at.path, at.hierarchy, at.byController
	return err
}

// readBundle reads config.json and fills in what the file alone shows.
func (s *Store) readBundle(ctx context.Context, at location) (Record, error) {
	file := at.config()
	s.mu.Lock()
	known, ok := s.records[file]
	s.mu.Unlock()
	if ok && trust.Unchanged(file, known.stamp, at.uid) {
		return known.record, nil
	}
	limit := int64(launch.MaxConfig)
	if at.uid != 0 {
		limit = maxUserConfig
	}
	raw, now, mapped, err := s.readConfig(file, at.uid, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, err
	}
	if errors.Is(err, trust.ErrUntrusted) {
		return Record{}, err // not stored: the directory may be repaired
	}
	r := Record{ID: at.id, Runtime: at.runtime(), Bundle: path.Dir(file), UID: at.uid, Stamp: now, details: details{mapped: mapped}}
	if err == nil {
		err = s.parse(ctx, &r, raw)
	}
	r.Err = err
	s.mu.Lock()
	s.records[file] = knownRecord{stamp: now, record: r}
	s.mu.Unlock()
	return r, nil
}

// readConfig reads the config.json of a bundle that this user must own, and returns who
// owns the directory of root's bundle, if the container's root does.
func (s *Store) readConfig(file string, uid uint32, limit int64) (raw []byte, now trust.Stamp, mapped uint32, err error) {
	if uid == 0 {
		raw, now, mapped, err = s.trust.ReadMapped(file, limit)
		if err == nil && mapped != 0 {
			err = isRoot(raw, mapped)
		}
		return raw, now, mapped, err
	}
	raw, now, owner, err := s.trust.ReadFile(file, limit)
	if err == nil && owner != uid {
		err = fmt.Errorf("%s: %w: uid %d owns it, and uid %d must", file, trust.ErrUntrusted, owner, uid)
	}
	return raw, now, 0, err
}

// isRoot returns an error unless a config.json makes a user of the host the root of the
// container, in a user namespace.
func isRoot(raw []byte, uid uint32) error {
	maps, err := readIDMaps(raw)
	if err != nil {
		return fmt.Errorf("%w: uid %d owns its directory: %w", trust.ErrUntrusted, uid, err)
	}
	for _, m := range maps.UIDs {
		if m.Container == 0 && m.Host == uid && m.Size > 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: uid %d owns its directory, and isn't the container's root", trust.ErrUntrusted, uid)
}

// parse fills in a record from the text of its config.json.
func (s *Store) parse(ctx context.Context, r *Record, raw []byte) error {
	file := r.config()
	c, err := launch.Parse(raw, r.Runtime)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if r.UID == 0 {
		c.Root.Path = s.storage.Root(ctx, r.ID, r.Bundle, c.Root.Path)
	}
	r.Runtime, r.RootPath = c.Runtime(), c.Root.Path
	if r.RootPath != "" && !path.IsAbs(r.RootPath) {
		r.RootPath = path.Join(r.Bundle, r.RootPath)
	}
	var known launch.Known
	if r.UID == 0 {
		known = s.known(ctx, r, c)
	}
	if r.Launch, err = launch.Normalise(c, r.ID, s.options.Rules, known); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if r.details.cgroup, err = declare(c.Linux.CgroupsPath, r.UID); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r.CgroupPath = ownCgroup(r.details.cgroup.path, r.UID)
	r.Pod, r.details.search, r.details.user = c.Pod(), searchPath(c), userOf(c, raw)
	r.Launch.Pod = podOf(r, c)
	if r.UID != 0 {
		r.Launch.Source = logs.SourceUser
	} else {
		r.details.power = power.Of(c, r.Launch, r.ID, r.Bundle)
		r.details.sandbox = sandboxOf(c)
	}
	r.HostPID = r.Launch.Asked.Namespaces["pid"] == launch.NamespaceHost
	return nil
}

// ownCgroup believes a user only about cgroups below the user's own manager.
func ownCgroup(cgroup string, uid uint32) string {
	if uid != 0 && !strings.HasPrefix(cgroup, userManager(uid)+"/") {
		return ""
	}
	return cgroup
}

// host is the host's file tree, as Options say.
func (s *Store) host() power.Host {
	return power.Host{Root: s.options.HostRoot, RootUID: s.trust.Root}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// evict removes what is stored of files that are gone.
func (s *Store) evict(live map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.records, func(file string, _ knownRecord) bool { return !live[file] })
	if len(s.states) > 2*len(live)+64 {
		clear(s.states)
	}
}
