package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The lines that a caller can cause in the journal are bounded for each account, apart
// from those of quotes and events, which have limits of their own. Without that bound a
// flood of lines would push out other lines, and journald drops a service's lines
// beyond a rate.

const (
	limiterBurst    = 10               // at once, for each account
	limiterInterval = time.Second      // one more
	reportAfter     = 10 * time.Second // until the number of lines that were left out is logged
)

// logLimiter bounds the lines of one kind for one account.
type logLimiter struct {
	lines *rate.Limiter

	mu   sync.Mutex
	more int // lines left out, and not logged yet
	log  func(more int)
	wait *time.Timer
}

func newLogLimiter() *logLimiter {
	return &logLimiter{lines: rate.NewLimiter(rate.Every(limiterInterval), limiterBurst)}
}

// allow reports whether a line may be written. A line that may not be written is
// counted, and log gets the number later.
func (q *logLimiter) allow(log func(more int)) bool {
	if q.lines.Allow() {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.log = log
	if q.more++; q.more == 1 {
		q.wait = time.AfterFunc(reportAfter, q.flush)
	}
	return false
}

// flush logs how many lines were left out.
func (q *logLimiter) flush() {
	q.mu.Lock()
	more, log := q.more, q.log
	if q.more = 0; q.wait != nil {
		q.wait.Stop()
	}
	q.mu.Unlock()
	if more > 0 {
		log(more)
	}
}

// logRefused writes a line about a refusal. Lines beyond the account's bound go to the
// debug level, and their number is logged later.
func (cs *callers) logRefused(a *account, message string, args ...any) {
	if a.refusals.allow(func(more int) { cs.log.Info("… and more refusals", "caller", a.name, "more", more) }) {
		cs.log.Info(message, args...)
	} else {
		cs.log.Debug(message, args...)
	}
}

func (cs *callers) logFailed(a *account, message string, args ...any) {
	if a.failures.allow(func(more int) { cs.log.Error("… and more calls that failed", "caller", a.name, "more", more) }) {
		cs.log.Error(message, args...)
	} else {
		cs.log.Debug(message, args...)
	}
}
