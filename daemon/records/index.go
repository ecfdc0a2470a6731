package records

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
)

// index holds where records lie, so that a cgroup path leads to its container
// without reading all records. A directory is listed again only when its mtime shows
// that something was made in it.
type index struct {
	dirs    map[string]time.Time // that were listed, with their mtimes then
	checked time.Time            // when the directories were last found unchanged
	recent  bool                 // a directory changed less than listingDelay before it was listed
	all     []location
	byID    map[string][]location
	byPath  map[string][]location // whose declared path doesn't end in the id
	byBase  map[string][]location // whose relative path doesn't: by its last component
	pending []location            // whose bundles could not be read: perhaps half written
}

// listingDelay is longer than a tick of the coarse clock that stamps directories: a
// directory that changed within it may change again under the same mtime.
const listingDelay = 50 * time.Millisecond

// recheckAfter is how long directories count as unchanged after they were checked:
// one caller is looked up by several paths, one after the other. A path that isn't
// found makes them checked again at once.
const recheckAfter = 200 * time.Microsecond

// maxPending bounds how many bundles one lookup reads again.
const maxPending = 256

var userManagerPath = regexp.MustCompile(`^/user\.slice/user-([0-9]+)\.slice/user@([0-9]+)\.service/`)

// candidates returns the bundles that may declare a cgroup path: those whose id is
// in its last component, and those that declared it when they were read.
func (s *Store) candidates(ctx context.Context, cgroupPath string) ([]location, error) {
	s.scan.Lock()
	defer s.scan.Unlock()
	if time.Since(s.index.checked) < recheckAfter {
		if out := s.lookup(ctx, cgroupPath); len(out) > 0 {
			return out, nil
		}
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return s.lookup(ctx, cgroupPath), nil
}

// lookup returns the candidates that the index has.
func (s *Store) lookup(ctx context.Context, cgroupPath string) []location {
	last := path.Base(cgroupPath)
	id := launch.HexID(last)
	s.retry(ctx)
	out := slices.Concat(s.index.byID[id], s.index.byPath[cgroupPath], s.index.byBase[last])
	if last != id {
		out = append(out, s.index.byID[last]...)
	}
	for _, at := range s.index.pending {
		if namesID(last, at.id) {
			out = append(out, at) // for its error
		}
	}
	if m := userManagerPath.FindStringSubmatch(cgroupPath); m != nil && m[1] == m[2] && id != "" {
		out = append(out, s.options.usersBundles(m[1], id)...)
	}
	return out
}

// usersBundles returns where one user's rootless engine would put a container.
func (o *Options) usersBundles(number, id string) []location {
	uid, err := strconv.ParseUint(number, 10, 32)
	if err != nil || uid == 0 {
		return nil
	}
	home, ok := o.Users()[uint32(uid)]
	if !ok {
		return nil
	}
	var out []location
	for i := range o.Places {
		if p := &o.Places[i]; p.ofUsers() {
			out = append(out, location{place: p, id: id, uid: uint32(uid), home: home})
		}
	}
	return out
}

// locations returns where all bundles of root's lie.
func (s *Store) locations(ctx context.Context) ([]location, error) {
	s.scan.Lock()
	defer s.scan.Unlock()
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return slices.Clone(s.index.all), nil
}

// isContainer reports whether a record of root's has this id.
func (s *Store) isContainer(id string) bool {
	s.scan.Lock()
	defer s.scan.Unlock()
	return len(s.index.byID[id]) > 0
}

func exists(file string) bool {
	var st unix.Stat_t
	return unix.Lstat(file, &st) == nil
}

// refresh lists the directories again if one of them changed.
func (s *Store) refresh(ctx context.Context) error {
	if !s.stale() {
		return nil
	}
	old := s.index.byID
	next := index{dirs: map[string]time.Time{}, byID: map[string][]location{}, byPath: map[string][]location{}, byBase: map[string][]location{}}
	for i := range s.options.Places {
		if p := &s.options.Places[i]; !p.ofUsers() {
			if err := next.listPlace(p); err != nil {
				return err
			}
		}
	}
	live := make(map[string]bool, len(next.all))
	for _, at := range next.all {
		next.byID[at.id] = append(next.byID[at.id], at)
		live[at.config()] = true
	}
	s.evict(live)
	for _, at := range next.all {
		if err := ctx.Err(); err != nil {
			return err
		}
		// An engine never uses an id twice: what was read of it still holds.
		s.mu.Lock()
		known, ok := s.records[at.config()]
		s.mu.Unlock()
		if ok && at.ofEngine() && launch.IsID(at.id) && len(old[at.id]) > 0 && known.record.Err == nil {
			next.add(at, known.record)
			continue
		}
		s.addBundle(ctx, &next, at)
	}
	s.index = next
	return nil
}

// addBundle reads a bundle and adds it to an index.
func (s *Store) addBundle(ctx context.Context, x *index, at location) {
	r, err := s.readBundle(ctx, at)
	switch {
	case err == nil && r.Err == nil:
		x.add(at, r)
	case errors.Is(err, fs.ErrNotExist) && at.namespace == "":
		// podman keeps directories of containers that never ran. Their ids
		// will stand in the cgroup's name.
	default:
		x.pending = append(x.pending, at)
	}
}

func (x *index) add(at location, r Record) {
	found := func(last string) bool { return launch.HexID(last) == at.id || last == at.id }
	if r.CgroupPath != "" && !found(path.Base(r.CgroupPath)) {
		x.byPath[r.CgroupPath] = append(x.byPath[r.CgroupPath], at)
	}
	if last := path.Base(r.details.cgroup.ending); r.details.cgroup.ending != "" && !found(last) {
		x.byBase[last] = append(x.byBase[last], at)
	}
}

// retry reads the bundles again that could not be read.
func (s *Store) retry(ctx context.Context) {
	pending := s.index.pending
	s.index.pending = nil
	for i, at := range pending {
		if i == maxPending || ctx.Err() != nil {
			s.index.pending = append(s.index.pending, pending[i:]...)
			return
		}
		s.addBundle(ctx, &s.index, at)
	}
}

// stale reports whether a directory may hold what the index doesn't.
func (s *Store) stale() bool {
	if s.index.dirs == nil || s.index.recent {
		return true
	}
	for dir, then := range s.index.dirs {
		if !modified(dir).Equal(then) {
			return true
		}
	}
	s.index.checked = time.Now()
	return false
}

// modified returns the mtime of a directory, zero where there is none.
func modified(dir string) time.Time {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return time.Time{}
	}
	return time.Unix(st.Mtim.Unix())
}

// listPlace lists the directories of a place.
func (x *index) listPlace(p *Place) error {
	above, _, _ := strings.Cut(p.Config, "/{id}/")
	top, _, spaces := strings.Cut(above, "/{namespace}")
	namespaces := []string{""}
	if spaces {
		var err error
		if namespaces, err = x.list(top); err != nil {
			return err
		}
	}
	for _, namespace := range namespaces {
		names, err := x.list(strings.ReplaceAll(above, "{namespace}", namespace))
		if err != nil {
			return err
		}
		for _, id := range names {
			if !spaces && !launch.IsID(id) {
				continue // containers.json and its lock
			}
			x.all = append(x.all, location{place: p, namespace: namespace, id: id})
		}
	}
	return nil
}

// list lists a directory and stores its mtime.
func (x *index) list(dir string) ([]string, error) {
	then := modified(dir)
	x.dirs[dir] = then
	if !then.IsZero() && time.Since(then).Abs() < listingDelay {
		x.recent = true
	}
	return listDir(dir)
}
