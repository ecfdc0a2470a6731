package journal

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// The bounds (cimad(8), JOURNAL).
const (
	burst    = 10               // at once, of one place in the code and one payer
	interval = time.Second      // one more
	allBurst = 1000             // at once, of all payers and one level
	allEvery = time.Second / 20 // one more
	tellAll  = 10 * time.Second // until what was left out is told
	maxKinds = 4096             // that are told apart
	maxLeft  = 256              // kinds of messages left out that are counted apart
	sweeping = time.Second      // between two looks for kinds that need no bound any more
)

// kind is what has a bound of its own: a place in the code, and a payer.
type kind struct {
	place uintptr
	payer string
}

type bounds struct {
	next  slog.Handler
	total atomic.Uint64 // left out since the start

	mu    sync.Mutex
	kinds map[kind]*rate.Limiter
	swept time.Time
	all   map[slog.Level]*rate.Limiter

	// What was left out and is not told yet.
	left  map[kind]*leftOut
	rest  int // of further kinds
	level slog.Level
	timer *time.Timer
}

// leftOut counts messages of one kind.
type leftOut struct {
	message string
	count   int
}

func newBounds(next slog.Handler) *bounds {
	return &bounds{next: next, kinds: make(map[kind]*rate.Limiter), all: make(map[slog.Level]*rate.Limiter), left: make(map[kind]*leftOut)}
}

// allow reports whether a message may be written. One that may not is counted.
func (b *bounds) allow(r slog.Record, payer string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	k := kind{r.PC, payer}
	if b.limiter(k, now).AllowN(now, 1) && (payer == "" || b.limiterOfAll(r.Level).AllowN(now, 1)) {
		return true
	}
	b.leaveOut(k, r)
	return false
}

// limiter is the bound of a kind. Where too many kinds are told apart, those that are
// new share the bound of their place.
func (b *bounds) limiter(k kind, now time.Time) *rate.Limiter {
	if l := b.kinds[k]; l != nil {
		return l
	}
	if len(b.kinds) >= maxKinds && now.Sub(b.swept) >= sweeping {
		b.swept = now
		for known, l := range b.kinds {
			if l.TokensAt(now) >= burst {
				delete(b.kinds, known)
			}
		}
	}
	if len(b.kinds) >= maxKinds && k.payer != "" {
		return b.limiter(kind{k.place, ""}, now)
	}
	l := rate.NewLimiter(rate.Every(interval), burst)
	b.kinds[k] = l
	return l
}

func (b *bounds) limiterOfAll(level slog.Level) *rate.Limiter {
	l := b.all[level]
	if l == nil {
		l = rate.NewLimiter(rate.Every(allEvery), allBurst)
		b.all[level] = l
	}
	return l
}

func (b *bounds) leaveOut(k kind, r slog.Record) {
	b.total.Add(1)
	b.level = max(b.level, r.Level)
	switch l := b.left[k]; {
	case l != nil:
		l.count++
	case len(b.left) < maxLeft:
		b.left[k] = &leftOut{r.Message, 1}
	default:
		b.rest++
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(tellAll, b.tell)
	}
}

// tell writes one line about all that was left out: how many messages, the kind that
// was most frequent, and whose that was.
func (b *bounds) tell() {
	b.mu.Lock()
	left, more, level := b.left, b.rest, b.level
	b.left, b.rest, b.level = make(map[kind]*leftOut), 0, slog.LevelInfo
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	b.mu.Unlock()
	var most leftOut
	var payer string
	payers := make(map[string]bool)
	for k, l := range left {
		more += l.count
		payers[k.payer] = true
		if l.count > most.count || l.count == most.count && k.payer < payer {
			most, payer = *l, k.payer
		}
	}
	if more == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), level, "… and more messages, left out", 0)
	r.Add("more", more, "payers", len(payers), "most", most.message, "count", most.count)
	if payer != "" {
		r.Add("payer", payer)
	}
	b.next.Handle(context.Background(), r)
}
