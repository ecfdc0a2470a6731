package confirmed

import "sync"

// Unlogged are the starts that the gate measured, and for whose launch the log had no
// space: the latest of each owner. The zero value is empty.
type Unlogged struct {
	mu      sync.Mutex
	byOwner map[string]unloggedStart
}

type unloggedStart struct {
	record string // the writing of it
	judged bool   // at START
}

// Note notes a start, which is named by the writing of its record.
func (u *Unlogged) Note(owner, start string) { u.store(owner, start, false) }

func (u *Unlogged) store(owner, start string, judged bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byOwner == nil {
		u.byOwner = make(map[string]unloggedStart)
	}
	u.byOwner[owner] = unloggedStart{start, judged}
}

// Judge notes that a start was judged, if its launch isn't logged.
func (u *Unlogged) Judge(owner, start string) {
	if u.Holds(owner, start) {
		u.store(owner, start, true)
	}
}

// Holds reports whether a start's launch has no space in the log.
func (u *Unlogged) Holds(owner, start string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.byOwner[owner]
	return ok && s.record == start
}

// IsJudged reports whether such a start was judged.
func (u *Unlogged) IsJudged(owner, start string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.byOwner[owner]
	return s.judged && s.record == start
}

// Retain evicts all starts but those of these owners.
func (u *Unlogged) Retain(owners map[string]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for owner := range u.byOwner {
		if !owners[owner] {
			delete(u.byOwner, owner)
		}
	}
}
