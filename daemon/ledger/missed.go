package ledger

import (
	"context"
	"encoding/json/v2"
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

// gaps counts gaps. Ledger.mu guards it.
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
	l.mu.Lock()
	l.gaps.count(gap{what, why})
	l.mu.Unlock()
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

// count counts a gap, or a general one where there are maxGaps kinds already.
func (x *gaps) count(g gap) {
	if _, known := x.happened[g]; !known && len(x.happened) >= maxGaps {
		g = gap{logs.MissedEvent, "it could not be measured"}
	}
	x.happened[g]++
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
	l.mu.Lock()
	l.gaps.count(gap{logs.MissedEvent, ErrFull.Error()})
	l.mu.Unlock()
	return errors.Join(err, l.logGaps(whole))
}

// note reads a missed event of the log.
func (x *gaps) note(e logs.Event) {
	var m logs.MissedBody
	if e.Operation != logs.OpMissed || json.Unmarshal(e.Body(), &m) != nil {
		return
	}
	g := gap{m.What, m.Why}
	x.logged[g] = max(m.Count, 1)
	x.happened[g] = max(x.happened[g], m.Count, 1)
}
