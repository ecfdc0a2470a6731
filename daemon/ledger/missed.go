package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs"
)

// gap is something that evidence should show and does not. It is public, so it
// holds no fact of a container.
type gap struct {
	what string // logs.MissedLaunch, …
	why  string
}

// gaps counts gaps.
type gaps struct {
	happened map[gap]int
	logged   map[gap]int // the count that the log holds
}

// maxGaps is the most kinds of gaps that are counted apart.
const maxGaps = 64

// Missed logs a public event: what could not be measured or logged, and why. Of a
// gap that repeats, Missed logs the 1st, 2nd, 4th, 8th, … time, so that a container
// that causes it over and over can't fill the log. After an error the gap is logged
// before the next event, or by FlushMissed.
func (l *Ledger) Missed(ctx context.Context, what, why string) error {
	l.count(gap{what, why})
	return l.FlushMissed(ctx)
}

// FlushMissed logs the gaps that Missed could not log, within Limits.Timeout.
func (l *Ledger) FlushMissed(ctx context.Context) error {
	if _, due := l.due(); !due {
		return nil
	}
	ctx, cancel := l.withTimeout(ctx)
	defer cancel()
	return l.exclusive(ctx, func(whole context.Context) error {
		if err := l.agreed(whole); err != nil {
			return err
		}
		return l.logGaps(whole)
	})
}

func (l *Ledger) count(g gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.gaps.happened[g]; !known && len(l.gaps.happened) >= maxGaps {
		g = gap{logs.MissedEvent, "it could not be measured"}
	}
	l.gaps.happened[g]++
}

// due returns a gap that must be logged now.
func (l *Ledger) due() (logs.MissedBody, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.started {
		return logs.MissedBody{}, false // the start event is the first
	}
	for g, n := range l.gaps.happened {
		if n >= max(1, 2*l.gaps.logged[g]) {
			return logs.MissedBody{What: g.what, Why: g.why, Count: n}, true
		}
	}
	return logs.MissedBody{}, false
}

// logGaps logs all gaps that are due. The caller has the turn.
func (l *Ledger) logGaps(whole context.Context) error {
	for {
		missed, due := l.due()
		if !due {
			return nil
		}
		e := Event{Operation: logs.OpMissed, Measured: missed}
		event, err := newEvent(e)
		if err == nil {
			err = l.admit(event, e)
		}
		if err == nil {
			err = l.attest(whole, event, e)
		}
		if err != nil {
			return fmt.Errorf("log what was missed: %w", err)
		}
	}
}

// refused counts a gap for an event that the whole log has no space for. An event
// past the limit of one container or user is no gap: that owner gets the error.
func (l *Ledger) refused(whole context.Context, err error) error {
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrSpent) {
		return err
	}
	l.count(gap{logs.MissedEvent, ErrFull.Error()})
	return errors.Join(err, l.logGaps(whole))
}

// noteMissed reads a missed event of the log into gaps. The caller holds mu.
func (l *Ledger) noteMissed(e logs.Event) {
	var m logs.MissedBody
	if e.Operation != logs.OpMissed || json.Unmarshal(e.Body(), &m) != nil {
		return
	}
	g := gap{m.What, m.Why}
	l.gaps.logged[g] = max(m.Count, 1)
	l.gaps.happened[g] = max(l.gaps.happened[g], m.Count, 1)
}
