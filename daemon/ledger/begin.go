package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
)

// beginRetry is the time between two tries to log an event of Begin.
const beginRetry = 500 * time.Millisecond

// Begin logs the events that every start of the daemon has, in order, and opens
// the ledger for all other events: until Begin returns, Append and Ready wait.
// Each function makes one event; Begin calls the function again when the event
// could not be logged. Call Begin once.
//
// Begin retries what can pass: an error of the hardware, a deadline, a full
// disk. It waits for the register as long as ctx lasts. A log that is
// inconsistent or full can't take the events, and opens all the same, so that
// callers get that error. Any other error, and the end of ctx, keeps the ledger
// shut: Begin, Append and Ready return it.
func (l *Ledger) Begin(ctx context.Context, events ...func(context.Context) (Event, error)) error {
	defer close(l.opened)
	for _, event := range events {
		err := l.appendFirst(ctx, event)
		var inconsistent *InconsistentError
		switch {
		case err == nil:
			continue
		case errors.As(err, &inconsistent) || errors.Is(err, ErrFull):
			l.opts.Log.Error("the daemon's start is not in the log", "error", err)
			return nil
		}
		l.shut = fmt.Errorf("log the daemon's start: %w", err)
		return l.shut
	}
	return nil
}

// appendFirst logs one event of Begin, and retries as Begin says.
func (l *Ledger) appendFirst(ctx context.Context, event func(context.Context) (Event, error)) error {
	for tries := 0; ; tries++ {
		e, err := event(ctx)
		if err == nil {
			_, err = l.append(ctx, e)
		}
		switch {
		case err == nil || !passes(err):
			return err
		case tries == 0 && ctx.Err() == nil:
			l.opts.Log.Warn("the daemon's start is not in the log yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(beginRetry):
		}
	}
}

// passes reports whether the same call may succeed later.
func passes(err error) bool {
	var hardware *hw.Error
	return errors.As(err, &hardware) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.ENOSPC)
}

// Ready waits until Begin returned, no longer than ctx and Limits.Timeout last.
// It returns Begin's error, or an *hw.Error when Begin still waits for the
// register.
func (l *Ledger) Ready(ctx context.Context) error {
	select {
	case <-l.opened:
		return l.shut
	default:
	}
	ctx, cancel := l.withTimeout(ctx)
	defer cancel()
	return l.waitOpened(ctx)
}

func (l *Ledger) waitOpened(ctx context.Context) error {
	select {
	case <-l.opened:
		return l.shut
	default:
	}
	select {
	case <-l.opened:
		return l.shut
	case <-ctx.Done():
		return gaveUp(ctx.Err(), "the daemon's own start is not in the log yet", "the register does not answer: ask again later")
	}
}

// withTimeout bounds ctx by Limits.Timeout.
func (l *Ledger) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	l.mu.RLock()
	timeout := l.limits.Timeout
	l.mu.RUnlock()
	if timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}
