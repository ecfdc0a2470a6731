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

// index knows where records lie, so that a cgroup path leads to its container
// without reading them all. A directory is read again only when its mtime
// says that something was made in it.
type index struct {
	dirs      map[string]time.Time // what was listed, and its mtime then
	looked    time.Time            // when the directories were last found unchanged
	unsettled bool                 // a directory changed too short before it was listed
	all       []location
	byID      map[string][]location
	byPath    map[string][]location
	pending   []location // seen, not understood: perhaps half written
}

// settle is longer than the coarse clock that stamps directories takes to
// move on.
const settle = 50 * time.Millisecond

// moment is for how long directories needn't be looked at again: a caller is
// asked about by several paths, one after the other. What isn't found is looked
// for again all the same.
const moment = 200 * time.Microsecond

// maxPending bounds what is looked at again on each question.
const maxPending = 256

var userManagerPath = regexp.MustCompile(`^/user\.slice/user-([0-9]+)\.slice/user@([0-9]+)\.service/`)

// candidates returns the bundles that may declare a cgroup path: those whose
// id its last component holds or is, and those known to declare it.
func (s *Store) candidates(ctx context.Context, cgroupPath string) ([]location, error) {
	s.scan.Lock()
	defer s.scan.Unlock()
	if time.Since(s.index.looked) < moment {
		if out := s.known(ctx, cgroupPath); len(out) > 0 {
			return out, nil
		}
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return s.known(ctx, cgroupPath), nil
}

// known are the candidates that the index has.
func (s *Store) known(ctx context.Context, cgroupPath string) []location {
	last := path.Base(cgroupPath)
	id := launch.HexID(last)
	s.retry(ctx)
	out := slices.Concat(s.index.byID[id], s.index.byPath[cgroupPath])
	if last != id {
		out = append(out, s.index.byID[last]...)
	}
	for _, at := range s.index.pending {
		if at.names(last) {
			out = append(out, at) // for its error
		}
	}
	if m := userManagerPath.FindStringSubmatch(cgroupPath); m != nil && m[1] == m[2] && id != "" {
		out = append(out, s.usersBundles(m[1], id)...)
	}
	return out
}

// usersBundles are where one user's rootless engine would have put a container.
func (s *Store) usersBundles(number, id string) []location {
	uid, err := strconv.ParseUint(number, 10, 32)
	if err != nil || uid == 0 {
		return nil
	}
	home, ok := s.options.Users()[uint32(uid)]
	if !ok {
		return nil
	}
	var out []location
	for i := range s.options.Places {
		if p := &s.options.Places[i]; p.users() {
			out = append(out, location{place: p, id: id, uid: uint32(uid), home: home})
		}
	}
	return out
}

// locations returns all bundles of root's.
func (s *Store) locations(ctx context.Context) ([]location, error) {
	s.scan.Lock()
	defer s.scan.Unlock()
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return slices.Clone(s.index.all), nil
}

// isContainer says that some record of root's has this id.
func (s *Store) isContainer(id string) bool {
	s.scan.Lock()
	defer s.scan.Unlock()
	return len(s.index.byID[id]) > 0
}

// refresh reads the directories again if one of them changed.
func (s *Store) refresh(ctx context.Context) error {
	if !s.stale() {
		return nil
	}
	old := s.index.byID
	next := index{dirs: map[string]time.Time{}, byID: map[string][]location{}, byPath: map[string][]location{}}
	for i := range s.options.Places {
		if p := &s.options.Places[i]; !p.users() {
			if err := next.readPlace(p); err != nil {
				return err
			}
		}
	}
	live := make(map[string]bool, len(next.all))
	for _, at := range next.all {
		next.byID[at.id] = append(next.byID[at.id], at)
		live[at.config()] = true
	}
	s.forget(live)
	for _, at := range next.all {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A random id is never used twice: what is known of it holds.
		s.mu.Lock()
		known, ok := s.records[at.config()]
		s.mu.Unlock()
		if ok && launch.IsID(at.id) && len(old[at.id]) > 0 && known.record.Err == nil {
			next.add(at, known.record)
			continue
		}
		s.learn(&next, at)
	}
	s.index = next
	return nil
}

// learn reads a bundle for the index.
func (s *Store) learn(x *index, at location) {
	r, err := s.bundle(at)
	switch {
	case err == nil && r.Err == nil:
		x.add(at, r)
	case errors.Is(err, fs.ErrNotExist) && at.namespace == "":
		// podman keeps directories of containers that never ran; the id
		// stands in the cgroup's name.
	default:
		x.pending = append(x.pending, at)
	}
}

func (x *index) add(at location, r Record) {
	if r.CgroupPath != "" && launch.HexID(path.Base(r.CgroupPath)) != at.id {
		x.byPath[r.CgroupPath] = append(x.byPath[r.CgroupPath], at)
	}
}

// retry looks again at bundles that were not understood.
func (s *Store) retry(ctx context.Context) {
	pending := s.index.pending
	s.index.pending = nil
	for i, at := range pending {
		if i == maxPending || ctx.Err() != nil {
			s.index.pending = append(s.index.pending, pending[i:]...)
			return
		}
		s.learn(&s.index, at)
	}
}

// stale says that a directory may hold what the index doesn't.
func (s *Store) stale() bool {
	if s.index.dirs == nil || s.index.unsettled {
		return true
	}
	for dir, then := range s.index.dirs {
		if !changed(dir).Equal(then) {
			return true
		}
	}
	s.index.looked = time.Now()
	return false
}

func changed(dir string) time.Time {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return time.Time{}
	}
	return time.Unix(st.Mtim.Unix())
}

// readPlace lists a place.
func (x *index) readPlace(p *Place) error {
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

// list lists a directory and notes when it last changed.
func (x *index) list(dir string) ([]string, error) {
	then := changed(dir)
	x.dirs[dir] = then
	if !then.IsZero() && time.Since(then).Abs() < settle {
		x.unsettled = true
	}
	return list(dir)
}
