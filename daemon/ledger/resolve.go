package ledger

import (
	"context"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// exclusive runs f, one f at a time. It waits for the turn and for f until ctx
// ends. f does not see the end of ctx and keeps the turn until it returns: hardware
// that does not answer blocks one goroutine, and no caller that has a deadline.
func (l *Ledger) exclusive(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return gaveUp(err, "it was not begun", "")
	}
	select {
	case l.writing <- struct{}{}:
	case <-ctx.Done():
		return gaveUp(ctx.Err(), "an earlier event is not done yet", "the register does not answer, or is slow: ask again later")
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-l.writing }()
		done <- f(context.WithoutCancel(ctx))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	default:
		return gaveUp(ctx.Err(), "it is not done yet", "the register does not answer, or is slow; an event may still be logged: read the log before you send it again")
	}
}

func gaveUp(why error, what, advice string) error {
	return &hw.Error{Op: hw.OpExtend, Path: "RTMR3", Err: fmt.Errorf("gave up waiting, %s: %w", what, why), Advice: advice}
}

// agreed resolves the pending record and checks that no other program extended
// RTMR3.
func (l *Ledger) agreed(ctx context.Context) error {
	l.mu.RLock()
	broken := l.broken
	l.mu.RUnlock()
	if broken != nil {
		return broken
	}
	if _, err := l.resolvePending(ctx); err != nil {
		return err
	}
	stands := stands(l)
	if !l.opts.anchored() || l.opts.Anchor == logs.AnchorPCR && stands.pcr.None() {
		return nil // no register, or one whose first value is not read yet
	}
	now, err := l.opts.read(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", l.opts.registerName(), err)
	case now == stands:
		return nil
	case l.opts.Anchor == logs.AnchorPCR && l.replayed() == (hw.Digest{}):
		return l.opts.moved() // no log yet: nothing is broken
	}
	return l.foreign(now)
}

// resolvePending decides by the register alone whether the last record was
// attested. It adds the record to memory, or removes it from the file, and reports
// which. After an error the record stays pending, and the ledger logs nothing else.
func (l *Ledger) resolvePending(ctx context.Context) (done bool, err error) {
	r := l.pending
	if r == nil {
		return false, nil
	}
	e, err := r.event()
	if err != nil {
		return false, err
	}
	before, after := around(l, r, e)
	now := after
	if l.opts.anchored() {
		if now, err = l.opts.read(ctx); err != nil {
			return false, fmt.Errorf("read %s after an extend: %w", l.opts.registerName(), err)
		}
	}
	switch now {
	case after:
		l.mu.Lock()
		l.note(e, *r)
		l.mu.Unlock()
		done = true
	case before:
		if err := l.file.truncate(r.offset); err != nil {
			return false, err
		}
	default:
		return false, l.foreign(now)
	}
	l.pending = nil
	return done, nil
}

// Check resolves the pending record, reads the register and returns an error unless
// log and register agree. It takes no longer than Limits.Timeout.
func (l *Ledger) Check(ctx context.Context) error {
	ctx, cancel := l.withTimeout(ctx)
	defer cancel()
	return l.exclusive(ctx, l.agreed)
}

// foreign returns the InconsistentError for an extend by another program. Its text
// says when that happened, as far as is known.
func (l *Ledger) foreign(actual held) error {
	l.mu.RLock()
	started, events := l.started, l.records.n
	l.mu.RUnlock()
	name := l.opts.registerName()
	why := name + " was extended by something else"
	switch {
	case !started && events == 0 && l.pending == nil:
		why = name + " was extended before this log began"
	case !started:
		why += " while no daemon ran"
	case l.pending != nil:
		why += " while an event of ours was being logged"
	}
	return l.disagree(actual, why)
}

func (l *Ledger) disagree(actual held, why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	log := held{rtmr3: l.register}
	if l.opts.Anchor == logs.AnchorPCR {
		log = held{pcr: l.pcr}
	}
	l.broken = &InconsistentError{Count: l.records.n, register: l.opts.registerName(), log: log, actual: actual, why: why}
	return l.broken
}
