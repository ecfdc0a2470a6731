package daemon

import (
	"sync"
	"time"
)

// A container that starts over and over with the same launch is logged when it
// calls, or when it has stayed for a while: a crash loop must not fill the log.
const (
	loopStarts = 5
	loopWindow = 10 * time.Minute
	loopStay   = 30 * time.Second
)

// starts are the recent ones of each container, at most one more than a crash
// loop needs.
type starts struct {
	mu      sync.Mutex
	byOwner map[string][]start
}

// start is one of a container's: the writing of its record, and its cgroup's
// inode, 0 where only the gate has seen it.
type start struct {
	record string
	inode  uint64
	at     time.Time
}

// note counts a start. Seen at the gate and again when it runs it is one.
func (s *starts) note(owner, record string, inode uint64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	recent := s.byOwner[owner]
	for i := range recent {
		if was := &recent[i]; was.record == record && (was.inode == 0 || was.inode == inode) {
			was.inode = inode
			return
		}
	}
	s.forget(at)
	recent = append(s.byOwner[owner], start{record, inode, at})
	if len(recent) > loopStarts+1 {
		recent = recent[1:]
	}
	if s.byOwner == nil {
		s.byOwner = make(map[string][]start)
	}
	s.byOwner[owner] = recent
}

// forget drops the containers that started long ago; under mu.
func (s *starts) forget(now time.Time) {
	for owner, recent := range s.byOwner {
		if now.Sub(recent[len(recent)-1].at) > loopWindow {
			delete(s.byOwner, owner)
		}
	}
}

// loop says that a container starts over and over.
func (s *starts) loop(owner string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	recent := s.byOwner[owner]
	return len(recent) > loopStarts && now.Sub(recent[0].at) <= loopWindow
}
