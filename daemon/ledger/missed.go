package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs"
)

// gap is something that evidence should tell of and can't. It is public, and so
// holds no container's facts.
type gap struct {
	What string `json:"what"` // "launch", "event"
	Why  string `json:"why"`
}

// missedEvent is measured.missed.
type missedEvent struct {
	gap
	Count int `json:"count"` // how often so far, in this boot
}

// gaps counts what was missed.
type gaps struct {
	happened map[gap]int
	logged   map[gap]int // the log's count
}

// maxGaps bounds the kinds of gaps that are told apart.
const maxGaps = 64

// Missed tells all that something could not be measured or logged, and why: the
// first time, and when it has happened twice, 4, 8, … times, so that whoever can
// bring it about over and over can't fill the log with it. After an error it is
// told before the next event, or by TellMissed.
func (l *Ledger) Missed(ctx context.Context, what, why string) error {
	l.count(gap{what, why})
	return l.FlushMissed(ctx)
}

// FlushMissed logs what was missed and could not be told then, within
// Limits.Timeout.
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
		g = gap{"event", "it could not be measured"}
	}
	l.gaps.happened[g]++
}

// due is a gap that is to be told now.
func (l *Ledger) due() (missedEvent, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.started {
		return missedEvent{}, false // start goes before all
	}
	for g, n := range l.gaps.happened {
		if n >= max(1, 2*l.gaps.logged[g]) {
			return missedEvent{g, n}, true
		}
	}
	return missedEvent{}, false
}

// logGaps logs what is due; the turn is the caller's.
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
			return fmt.Errorf("what was missed is not told: %w", err)
		}
	}
}

// refused makes a gap of an event that the log as a whole has no room for. What
// one container or user has used up is its own affair, and it is told.
func (l *Ledger) refused(whole context.Context, err error) error {
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrSpent) {
		return err
	}
	l.count(gap{"event", ErrFull.Error()})
	return errors.Join(err, l.logGaps(whole))
}

// noteMissed takes up what the log says of gaps; under mu.
func (l *Ledger) noteMissed(e logs.Event) {
	var m missedEvent
	if e.Operation != logs.OpMissed || json.Unmarshal(e.Body(), &m) != nil {
		return
	}
	l.gaps.logged[m.gap] = max(m.Count, 1)
	l.gaps.happened[m.gap] = max(l.gaps.happened[m.gap], m.Count, 1)
}
