package containers

import (
	"context"
	"errors"
	"sync"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
)

// unloggedStarts are the starts that the gate measured, and for whose launch the log had no
// space: the latest of each owner. The zero value is empty.
type unloggedStarts struct {
	mu      sync.Mutex
	byOwner map[string]unloggedStart
}

type unloggedStart struct {
	record string // the writing of it
	judged bool   // at START
}

func (u *unloggedStarts) note(rec records.Record) { u.store(rec, false) }

func (u *unloggedStarts) store(rec records.Record, judged bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byOwner == nil {
		u.byOwner = make(map[string]unloggedStart)
	}
	u.byOwner[rec.Name] = unloggedStart{rec.StartKey(), judged}
}

// judge notes that a start was judged, if its launch isn't logged.
func (u *unloggedStarts) judge(rec records.Record) {
	if u.holds(rec) {
		u.store(rec, true)
	}
}

// holds reports whether a start's launch has no space in the log.
func (u *unloggedStarts) holds(rec records.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.byOwner[rec.Name]
	return ok && s.record == rec.StartKey()
}

// isJudged reports whether such a start was judged.
func (u *unloggedStarts) isJudged(rec records.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.byOwner[rec.Name]
	return s.judged && s.record == rec.StartKey()
}

// retain evicts all starts but those of these owners.
func (u *unloggedStarts) retain(owners map[string]bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for owner := range u.byOwner {
		if !owners[owner] {
			delete(u.byOwner, owner)
		}
	}
}

// announceUnlogged announces a container whose launch the log has no space for, and that
// nobody judged at START: its launch would be followed by that. A container that has used
// up its own share is not announced: it had the same power at the starts that are logged,
// and by a restart it could have itself announced.
func (m *Manager) announceUnlogged(ctx context.Context, i *Instance, rec records.Record, why error) error {
	if !errors.Is(why, errUnlogged) || errors.Is(why, ledger.ErrSpent) || m.unlogged.isJudged(rec) || isUnsettled(rec, &i.unsettled) {
		return nil
	}
	return m.announceUnseen(ctx, i.Owner, rec)
}
