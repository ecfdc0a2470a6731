package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cima-project/cima/logs"
)

// Limits bound the log, and how long it is waited for. Zero means no bound. A
// part of Bytes and Shown is kept for what all must learn.
type Limits struct {
	Bytes       int64 // of the file, so that the log can't fill /run
	Shown       int64 // that the log takes in the evidence of anybody: public events, digests of the others
	OwnerShown  int64 // that a container's own events take in its evidence, beside that
	OwnerEvents int   // that one container, or all of one user's, may cause
	Whole       bool  // evidence shows all events whole

	Timeout time.Duration // for Begin, a turn and the register, together
}

var (
	// ErrFull says that a bound of the log was reached.
	ErrFull = errors.New("runtime log is full")

	// ErrSpent is an ErrFull of one container, or user, alone.
	ErrSpent = fmt.Errorf("%w for this container", ErrFull)
)

// SetLimits takes other limits from now on.
func (l *Ledger) SetLimits(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
}

// admit holds an event against the limits, and to the instance it is for.
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
	who := payerOf(e.Container, asked.Charge)
	share, most := l.limits.OwnerEvents, l.limits.OwnerShown
	if asked.Last {
		share, most = share+1, most+lastShown
	}
	if n := l.spent[who]; who != "" && l.limits.OwnerEvents > 0 && n >= share {
		return fmt.Errorf("%w: %s caused %d events, its limit", ErrSpent, who, n)
	}
	if o != nil && l.limits.OwnerShown > 0 && o.shown+shownWhole(e) > most {
		return fmt.Errorf("%w: its events take %d bytes of its evidence, of %d", ErrSpent, o.shown, most)
	}
	if most := boundFor(l.limits.Bytes, e.Operation); most > 0 && l.file.size+diskSize(e) > most {
		return fmt.Errorf("%w: it holds %d bytes, of %d for such events", ErrFull, l.file.size, most)
	}
	after := l.shown
	after.add(e)
	if most := boundFor(l.limits.Shown, e.Operation); most > 0 && after.of(l.limits.Whole) > most {
		return fmt.Errorf("%w: it takes %d bytes of any evidence, of %d for such events", ErrFull, l.shown.of(l.limits.Whole), most)
	}
	return nil
}

// lastShown is the room of an event that is an owner's last.
const lastShown = 4 << 10

// boundFor is the part of a bound that an event may fill: what all must learn is
// told even when the log is full for the rest, and that something was missed
// even after that.
func boundFor(bound int64, operation string) int64 {
	switch operation {
	case logs.OpStart, logs.OpPolicy, logs.OpSeal, logs.OpMissed:
		return bound
	case logs.OpPower, logs.OpSystem, logs.OpIMA:
		return bound - bound/8
	}
	return bound - bound/4
}

// sizes are the bytes that the log takes in evidence that shows nobody's own
// events, and in one that shows all.
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

// What an event takes in evidence (cima-evidence(7)): 48 bytes in base64, or
// all of its own in a member of a record, which parts a run of digests in two.
const (
	shownDigest = 64
	shownRecord = int64(len(`{"event":""},`) + len(`{"digests":""},`))
)

func shownWhole(e logs.Event) int64 {
	return shownRecord + int64(base64.StdEncoding.EncodedLen(len(e.Bytes())))
}

// payerOf is whom an event is charged to: its container, or the user whose that
// is ("uid/id"), who can make as many containers as they like. A public event is
// charged to whoever caused it.
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
