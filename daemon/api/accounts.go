package api

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/quotes"
)

// accounts are what callers may still use, by payer.
type accounts struct {
	limits config.Limits
	nobody *account // of whom nothing is known

	mu    sync.Mutex
	byKey map[string]*account
}

// unattributed begins the accounts of callers that were refused.
const unattributed = "unattributed"

// maxStrangers bounds the accounts of callers that were refused because they could
// not be attributed.
const maxStrangers = 64

func newAccounts(l config.Limits) *accounts {
	as := &accounts{limits: l, byKey: make(map[string]*account)}
	as.nobody = as.use(unattributed)
	return as
}

// reload applies limits that changed to all accounts, also to those in use.
func (as *accounts) reload(l config.Limits) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.limits = l
	for _, a := range as.byKey {
		a.requests.SetLimit(rate.Limit(l.RequestsPerSecond))
		a.requests.SetBurst(l.RequestsBurst)
		a.quotes.SetLimit(rate.Limit(l.QuotesPerMinute / 60))
		a.quotes.SetBurst(l.QuotesBurst)
	}
}

type account struct {
	name             string
	requests, quotes *rate.Limiter

	users int       // connections; under accounts.mu
	idle  time.Time // since when there are none

	mu   sync.Mutex
	next *sharedTurn // nil: nobody waits for the next quote
}

// A sharedTurn is a quote of the next moment, for callers of one account that share it.
type sharedTurn struct {
	left int           // callers that it can still pay for
	come chan struct{} // closed at that moment
}

// nextQuote waits until the account's rate allows another quote, and pays for it. Callers
// that wait at the same time pay one quote together. refused is the error of the caller who
// would wait beyond the end of ctx.
func (a *account) nextQuote(ctx context.Context, refused error) error {
	turn := a.joinNext(ctx)
	if turn == nil {
		return refused
	}
	select {
	case <-turn.come:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *account) joinNext(ctx context.Context) *sharedTurn {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil || a.next.left == 0 {
		reserved := a.quotes.Reserve()
		wait := reserved.Delay()
		if end, bounded := ctx.Deadline(); bounded && time.Until(end) < wait {
			reserved.Cancel()
			return nil
		}
		turn := &sharedTurn{left: quotes.CallersPerQuote, come: make(chan struct{})}
		a.next = turn
		time.AfterFunc(wait, func() { a.arrive(turn) })
	}
	a.next.left--
	return a.next
}

// arrive lets the callers of a turn go on; who comes later waits for the turn after it.
func (a *account) arrive(turn *sharedTurn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == turn {
		a.next = nil
	}
	close(turn.come)
}

func (as *accounts) use(key string) *account {
	as.mu.Lock()
	defer as.mu.Unlock()
	a := as.byKey[key]
	if a == nil {
		as.evict()
		l := as.limits
		a = &account{
			name:     key,
			requests: rate.NewLimiter(rate.Limit(l.RequestsPerSecond), l.RequestsBurst),
			quotes:   rate.NewLimiter(rate.Limit(l.QuotesPerMinute/60), l.QuotesBurst),
		}
		as.byKey[key] = a
	}
	a.users++
	return a
}

// useStranger is use for a caller that could not be attributed. There are few such
// accounts, because somebody may be able to be in many places.
func (as *accounts) useStranger(key string) *account {
	as.mu.Lock()
	strangers := 0
	for known := range as.byKey {
		if known == key {
			strangers = 0
			break
		}
		if strings.HasPrefix(known, unattributed) {
			strangers++
		}
	}
	as.mu.Unlock()
	if strangers >= maxStrangers {
		key = unattributed
	}
	return as.use(key)
}

// evict drops accounts whose limiters are full again. If an account were dropped
// sooner, its caller could reset its rate by reconnecting.
func (as *accounts) evict() {
	l := as.limits
	refill := time.Duration((float64(l.QuotesBurst)/l.QuotesPerMinute*60 +
		float64(l.RequestsBurst)/l.RequestsPerSecond) * float64(time.Second))
	for key, a := range as.byKey {
		if a.users == 0 && time.Since(a.idle) > refill+time.Second {
			delete(as.byKey, key)
		}
	}
}

func (as *accounts) release(a *account) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if a.users--; a.users == 0 {
		a.idle = time.Now()
	}
}

// acquire takes one of a limiter's tokens, or returns how long to wait for it.
func acquire(l *rate.Limiter) time.Duration {
	r := l.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}
