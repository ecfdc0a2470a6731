package ledger

import (
	"context"
	"fmt"

	"github.com/cima-project/cima/hw"
)

// exclusive has f run alone. It waits for its turn, and then for f, no longer
// than ctx lasts. f isn't told of ctx's end, and keeps its turn until it is
// through: hardware that doesn't answer holds up one goroutine, and nobody who
// has a deadline.
func (l *Ledger) exclusive(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return gaveUp(err, "it was not begun", "")
	}
	select {
	case l.writing <- struct{}{}:
	case <-ctx.Done():
		return gaveUp(ctx.Err(), "what came before is still under way", "the register does not answer, or is slow: ask again later")
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
		return gaveUp(ctx.Err(), "it is still under way", "the register does not answer, or is slow; an event may be logged yet: look before it is sent again")
	}
}

func gaveUp(why error, what, advice string) error {
	return &hw.Error{Op: hw.OpExtend, Path: "RTMR3", Err: fmt.Errorf("gave up waiting, %s: %w", what, why), Advice: advice}
}

// agreed settles what is pending and checks that nobody else extended RTMR3.
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
	if l.opts.Anchor != AnchorRTMR3 {
		return nil
	}
	now, err := l.rtmr3(ctx)
	if err != nil {
		return fmt.Errorf("read RTMR3: %w", err)
	}
	if now != l.Register() {
		return l.foreign(now)
	}
	return nil
}

// resolvePending decides by the register alone whether the record written last
// was attested, enters it or takes it back, and reports which. After an error
// it is pending still, and nothing else is logged before it is settled.
func (l *Ledger) resolvePending(ctx context.Context) (done bool, err error) {
	r := l.pending
	if r == nil {
		return false, nil
	}
	now := r.After
	if l.opts.Anchor == AnchorRTMR3 {
		if now, err = l.rtmr3(ctx); err != nil {
			return false, fmt.Errorf("read RTMR3 after an extend: %w", err)
		}
	}
	switch now {
	case r.After:
		e, err := r.event()
		if err != nil {
			return false, err
		}
		l.mu.Lock()
		l.note(e, *r)
		l.mu.Unlock()
		done = true
	case r.Before:
		if err := l.file.truncate(r.offset); err != nil {
			return false, err
		}
	default:
		return false, l.foreign(now)
	}
	l.pending = nil
	return done, nil
}

// Check settles what is pending, reads the register and reports whether log
// and register agree, within Limits.Timeout.
func (l *Ledger) Check(ctx context.Context) error {
	ctx, cancel := l.withTimeout(ctx)
	defer cancel()
	return l.exclusive(ctx, l.agreed)
}

func (l *Ledger) rtmr3(ctx context.Context) (hw.Digest, error) {
	all, err := l.opts.Register.Registers(ctx)
	return all.RTMR[3], err
}

// foreign says when something else extended RTMR3, so far as is known.
func (l *Ledger) foreign(actual hw.Digest) error {
	l.mu.RLock()
	started, events := l.started, l.records.n
	l.mu.RUnlock()
	why := "RTMR3 was extended by something else"
	switch {
	case !started && events == 0 && l.pending == nil:
		why = "RTMR3 was extended before this log began"
	case !started:
		why += " while no daemon ran"
	case l.pending != nil:
		why += " at the same time"
	}
	return l.disagree(actual, why)
}

func (l *Ledger) disagree(actual hw.Digest, why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = &InconsistentError{Count: l.records.n, Log: l.register, Actual: actual, Why: why}
	return l.broken
}
