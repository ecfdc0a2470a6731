package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What callers can cause in the journal beside what is limited already (quotes,
// events) is bounded for each account: a flood of lines would rotate out those
// of others, and journald drops a service's lines beyond a rate.

const (
	limiterBurst    = 10               // at once, for each account
	limiterInterval = time.Second      // one more
	reportAfter     = 10 * time.Second // until what was left out is told as a number
)

// logLimiter bounds the lines of one kind for one account.
type logLimiter struct {
	lines *rate.Limiter

	mu   sync.Mutex
	more int // left out, and not told yet
	tell func(more int)
	wait *time.Timer
}

func newLogLimiter() *logLimiter {
	return &logLimiter{lines: rate.NewLimiter(rate.Every(limiterInterval), limiterBurst)}
}

// allow reports whether a line may be written. Where not, it is counted, and
// told later.
func (q *logLimiter) allow(tell func(more int)) bool {
	if q.lines.Allow() {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tell = tell
	if q.more++; q.more == 1 {
		q.wait = time.AfterFunc(reportAfter, q.flush)
	}
	return false
}

// flush tells how many lines were left out.
func (q *logLimiter) flush() {
	q.mu.Lock()
	more, tell := q.more, q.tell
	if q.more = 0; q.wait != nil {
		q.wait.Stop()
	}
	q.mu.Unlock()
	if more > 0 {
		tell(more)
	}
}

// logRefused writes a line about a refusal, as many as one account may cause;
// the others are told as a number.
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
