package records

import (
	"cmp"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
)

// ErrTwice says that an older record has a container's id. The id is the container's name
// in the log, and what its engine, its runtime and its relying parties know it by: two can't
// have it, whatever their runtimes and namespaces. The one that was first keeps it, and the
// other gets no evidence.
var ErrTwice = errors.New("another container has this id")

// rival returns the record by which another one is refused. Ids that users choose in
// containerd's namespaces are names there alone ("web"), unless they look like an engine's.
func (s *Store) rival(at location) (rival location, refused bool) {
	s.scan.Lock()
	others := s.index.byID[at.id]
	s.scan.Unlock()
	for _, other := range others {
		if other != at && (launch.IsID(at.id) || other.name() == at.name()) && exists(other.config()) && comesBefore(other, at) {
			return other, true
		}
	}
	return location{}, false
}

// comesBefore reports which of two records keeps their id: root's before a user's, one
// whose id an engine made before one whose id a user of containerd chose, and the older.
func comesBefore(a, b location) bool {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	order := cmp.Or(first(a.uid == 0, b.uid == 0), first(a.ofEngine(), b.ofEngine()),
		cmp.Compare(born(path.Dir(a.config())), born(path.Dir(b.config()))))
	return order < 0 || order == 0 && a.config() < b.config()
}

// born returns when a directory was made, in nanoseconds; where the file system doesn't say,
// when it was changed last.
func born(dir string) int64 {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_CTIME, &st) != nil {
		return 0
	}
	at := st.Btime
	if st.Mask&unix.STATX_BTIME == 0 {
		at = st.Ctime
	}
	return at.Sec*1e9 + int64(at.Nsec)
}

// name is the container's name in the log. One that is refused for its id has another.
func (s *Store) name(at location) string {
	if rival, refused := s.rival(at); refused && rival.name() == at.name() {
		return at.name() + "@" + at.place.dir()
	}
	return at.name()
}

// checkID returns an error for a record that is refused for its id.
func (s *Store) checkID(at location) error {
	if rival, refused := s.rival(at); refused {
		return fmt.Errorf("container %s: %w: %s is the record of it", at.name(), ErrTwice, rival.config())
	}
	return nil
}
