package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cima-project/cima/logs"
)

// Limits bound the log, and how long callers wait for it. Zero means no bound. A
// part of Bytes and Shown is reserved for events that everybody must see.
type Limits struct {
	Bytes       int64 // of the file, so that the log can't fill /run
	Shown       int64 // of the log in everybody's evidence: public events, and digests of the others
	OwnerShown  int64 // of a container's own events in its evidence, in addition to Shown
	OwnerEvents int   // that one container may cause, or all containers of one user
	Whole       bool  // evidence shows all events, not digests

	Timeout time.Duration // for Begin, a turn and the register together
}

var (
	// ErrFull says that the log has reached a limit.
	ErrFull = errors.New("runtime log is full")

	// ErrSpent is the ErrFull of one container or one user.
	ErrSpent = fmt.Errorf("%w for this container", ErrFull)
)

// SetLimits replaces the limits.
func (l *Ledger) SetLimits(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
}

// admit checks an event against the limits and against the instance that it
// belongs to.
func (l *Ledger) admit(e logs.Event, asked Event) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.broken != nil {
		return l.broken
	}
	if l.holds(e, asked.Instance) {
		return errLogged
	}
	o := l.owners[e.Container]
	if asked.Instance != "" && e.Operation != logs.OpLaunch && (o == nil || o.instance != asked.Instance) {
		return ErrReplaced
	}
	payer := payerOf(e.Container, asked.Charge)
	share := l.limits.share(e, asked.Last, l.limits.rest(l.shown.of(l.limits.Whole), l.file.size))
	if n := l.spent[payer]; payer != "" && l.limits.OwnerEvents > 0 && n >= share {
		return fmt.Errorf("%w: %s has caused %d events, of %d that it may", ErrSpent, payer, n, share)
	}
	limit := l.limits.OwnerShown
	if asked.Last {
		limit += lastShown
	}
	if o != nil && l.limits.OwnerShown > 0 && o.shown+shownWhole(e) > limit {
		return fmt.Errorf("%w: its events take %d of %d bytes of its evidence", ErrSpent, o.shown, limit)
	}
	if limit := boundFor(l.limits.Bytes, e.Operation); limit > 0 && l.file.size+diskSize(e) > limit {
		return fmt.Errorf("%w: it takes %d of %d bytes that such events may fill", ErrFull, l.file.size, limit)
	}
	after := l.shown
	after.add(e)
	if limit := boundFor(l.limits.Shown, e.Operation); limit > 0 && after.of(l.limits.Whole) > limit {
		return fmt.Errorf("%w: it takes %d of %d bytes of everybody's evidence that such events may fill", ErrFull, l.shown.of(l.limits.Whole), limit)
	}
	return nil
}

// lastShown is how many bytes an owner's last event may take past OwnerShown.
const lastShown = 4 << 10

// Parts of a payer's share, in events.
const (
	// everybodys is what a payer may cause however full the log is for events of
	// containers: some starts.
	everybodys = 32

	// afterLaunch is what is left for a launch: its mounted and its image event have to
	// fit, or a container that was measured would have no evidence, and count as unseen.
	afterLaunch = 2

	// powers is how many power events a container may cause past its share. It has the
	// same at each start, and they are logged once: so none is hidden because the
	// container has used up its share by other events.
	powers = 64
)

// share is how many events a payer may have caused where this one is taken. Shares shrink
// as the log fills, so that some containers together don't fill it for all others.
func (l Limits) share(e logs.Event, last bool, rest float64) int {
	share := min(l.OwnerEvents, max(everybodys, int(float64(l.OwnerEvents)*rest)))
	switch {
	case last:
		return l.OwnerEvents + 1
	case e.Operation == logs.OpPower:
		return l.OwnerEvents + powers
	case e.Operation == logs.OpLaunch:
		return max(1, share-afterLaunch)
	case e.Operation == logs.OpMounted, e.Operation == logs.OpImage, e.Operation == logs.OpExit:
		return l.OwnerEvents // a launch was admitted before
	}
	return share
}

// rest is the part of the log that is left for events of containers, from 1 to 0, where so
// many bytes are shown and on disk.
func (l Limits) rest(shown, onDisk int64) float64 {
	rest := 1.0
	if bound := boundFor(l.Shown, logs.OpExtend); bound > 0 {
		rest = min(rest, 1-float64(shown)/float64(bound))
	}
	if bound := boundFor(l.Bytes, logs.OpExtend); bound > 0 {
		rest = min(rest, 1-float64(onDisk)/float64(bound))
	}
	return max(0, rest)
}

// boundFor returns the part of a bound that an event may fill. Events that
// everybody must see still fit when the log is full for all others; events about
// the daemon and about gaps still fit after those.
func boundFor(bound int64, operation string) int64 {
	switch operation {
	case logs.OpStart, logs.OpPolicy, logs.OpSeal, logs.OpMissed:
		return bound
	case logs.OpPower, logs.OpSystem, logs.OpIMA:
		return bound - bound/8
	}
	return bound - bound/4
}

// sizes are the bytes that the log takes in evidence that shows no container's
// own events, and in evidence that shows all.
type sizes struct{ redacted, whole int64 }

func (s *sizes) add(e logs.Event) {
	s.whole += shownWhole(e)
	if e.Container == "" {
		s.redacted += shownWhole(e)
	} else {
		s.redacted += shownDigest
	}
}

func (s sizes) of(whole bool) int64 {
	if whole {
		return s.whole
	}
	return s.redacted
}

// The bytes that an event takes in evidence (cima-evidence(7)): a digest of 48
// bytes in base64, or a record with the whole event, which splits a run of
// digests in two.
const (
	shownDigest = 64
	shownRecord = int64(len(`{"event":""},`) + len(`{"digests":""},`))
)

func shownWhole(e logs.Event) int64 {
	return shownRecord + int64(base64.StdEncoding.EncodedLen(len(e.Bytes())))
}

// payerOf returns who is charged for an event: its container, or the user that
// owns the container ("uid/id"), because a user can make any number of containers.
// A public event is charged to the container that caused it.
func payerOf(container, charge string) string {
	if container == "" {
		container = charge
	}
	uid, _, user := strings.Cut(container, "/")
	if user {
		return "uid " + uid
	}
	return container
}
