package door

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// quietPart is the part of one origin's rate that all together may have before
	// anybody is looked up.
	quietPart = 8

	// answers is how many of those that are beyond their rate are told so, each second.
	answers = 20

	maxOrigins = 4096        // whose rate is known; further ones share one
	sweeping   = time.Second // between two looks for those that need no rate any more
)

// rates are the rates of all origins.
type rates struct {
	each     rate.Limit
	burst    int
	all      *rate.Limiter // of all together, before anybody is looked up
	answered *rate.Limiter

	mu       sync.Mutex
	byOrigin map[string]*rate.Limiter
	swept    time.Time
}

func (r *rates) setUp(each float64, burst int) {
	r.each, r.burst = rate.Limit(each), burst
	r.all = rate.NewLimiter(r.each/quietPart, max(1, burst/quietPart))
	r.answered = rate.NewLimiter(answers, answers)
	r.byOrigin = make(map[string]*rate.Limiter)
}

// quiet reports whether so few connect that none can be beyond its rate.
func (r *rates) quiet() bool { return r.all.Allow() }

// mayAnswer reports whether one that is beyond its rate is told so.
func (r *rates) mayAnswer() bool { return r.answered.Allow() }

// allow reports whether a connection is within its origin's rate. The rate of an origin
// that comes and goes lasts: it is forgotten when it is whole again, and not before.
func (r *rates) allow(origin string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	l := r.byOrigin[origin]
	if l == nil {
		if len(r.byOrigin) >= maxOrigins && now.Sub(r.swept) >= sweeping {
			r.sweep(now)
		}
		if len(r.byOrigin) >= maxOrigins {
			origin = "others"
			l = r.byOrigin[origin]
		}
	}
	if l == nil {
		l = rate.NewLimiter(r.each, r.burst)
		r.byOrigin[origin] = l
	}
	return l.AllowN(now, 1)
}

func (r *rates) sweep(now time.Time) {
	r.swept = now
	for origin, l := range r.byOrigin {
		if l.TokensAt(now) >= float64(r.burst) {
			delete(r.byOrigin, origin)
		}
	}
}
