// Package peers answers: is the other end of a session as a policy wants it?
//
// Many sessions share the evidence of one quote (rpc/atls), so that a result is kept for
// some time and found again by the evidence's digest.
package peers

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc"
)

const (
	kept    = 16               // results, with their events
	keptFor = 30 * time.Second // no policy file or collateral is older in what it says
)

// Appraiser takes sessions whose evidence has the verdict *trusted*. Its zero value with
// a policy in Options is ready.
type Appraiser struct {
	// Options must hold a policy. Their nonce and user data are those of each session.
	Options verify.Options

	// Judged is told each result, of the cache or not; nil tells nobody.
	Judged func(*verify.Result)

	mu      sync.Mutex
	room    *semaphore.Weighted // of the evidence that is being appraised
	results map[[48]byte]*judged
	order   [][48]byte // the oldest first

	// A test's own; nil means the usual.
	now      func() time.Time
	appraise func(context.Context, []byte, verify.Options) (*verify.Result, error)
}

// judged is a result, or the place of one that somebody is working on.
type judged struct {
	made   time.Time
	done   chan struct{}
	result *verify.Result
	err    error
}

// RefusedError is evidence that isn't trusted.
type RefusedError struct {
	Result *verify.Result
}

// Error is the verdict and its reason.
func (e *RefusedError) Error() string {
	return string(e.Result.Verdict) + ": " + e.Result.Reason
}

// Appraise refuses evidence that hasn't exactly this nonce and these user data, or that
// the policy doesn't want.
func (a *Appraiser) Appraise(ctx context.Context, evidence, nonce, userData []byte) error {
	if a.Options.Policy == nil {
		return errors.New("appraise a session's evidence: there must be a policy: without one nobody in particular is trusted")
	}
	result, err := a.result(ctx, evidence, nonce, userData)
	if err != nil {
		return err
	}
	if a.Judged != nil {
		a.Judged(result)
	}
	if result.Verdict != verify.Trusted {
		return &RefusedError{result}
	}
	return nil
}

// room is how many bytes of evidence are appraised at once: anybody who connects can have the
// largest appraised, which takes many times its own size of memory. Four of these fit, and
// thousands that are small, of which some may wait for collateral.
const room = 4 * rpc.MaxEvidence

// result appraises, or waits for the one who appraises the same.
func (a *Appraiser) result(ctx context.Context, evidence, nonce, userData []byte) (*verify.Result, error) {
	k, mine := key(evidence, nonce, userData), false
	j := a.find(k)
	if j == nil {
		size := min(int64(len(evidence)), room)
		if err := a.room.Acquire(ctx, size); err != nil {
			return nil, context.Cause(ctx)
		}
		if j, mine = a.place(k); mine {
			opts := a.Options
			opts.Nonce, opts.UserData = nonce, &userData
			// Others wait for it, so that it ends neither with this session nor by its deadline.
			appraise := verify.Appraise
			if a.appraise != nil {
				appraise = a.appraise
			}
			j.result, j.err = appraise(context.WithoutCancel(ctx), evidence, opts)
			if j.err != nil {
				a.forget(k, j)
			}
			close(j.done)
		}
		a.room.Release(size)
	}
	select {
	case <-j.done:
		return j.result, j.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// key is the digest of all that a result depends on and a peer can choose. Each part
// says how long it is, so that no byte can move into the next.
func key(parts ...[]byte) [48]byte {
	h := sha512.New384()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	return [48]byte(h.Sum(nil))
}

// find is the result that is there, or that somebody works on; nil for none.
func (a *Appraiser) find(k [48]byte) *judged {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(kept + 1)
	return a.results[k]
}

// place is what find finds, or a new place for the result of who appraises.
func (a *Appraiser) place(k [48]byte) (j *judged, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(kept)
	if j := a.results[k]; j != nil {
		return j, false
	}
	j = &judged{made: a.time(), done: make(chan struct{})}
	a.results[k], a.order = j, append(a.order, k)
	return j, true
}

func (a *Appraiser) time() time.Time {
	if a.now != nil {
		return a.now()
	}
	return time.Now()
}

// drop drops results that are old, and the oldest until there are less than most.
func (a *Appraiser) drop(most int) {
	if a.results == nil {
		a.results, a.room = make(map[[48]byte]*judged), semaphore.NewWeighted(room)
	}
	for len(a.order) > 0 && (len(a.order) >= most || a.time().Sub(a.results[a.order[0]].made) >= keptFor) {
		delete(a.results, a.order[0])
		a.order = a.order[1:]
	}
}

// forget lets the next one try again: errors are about collateral, not about evidence.
func (a *Appraiser) forget(k [48]byte, j *judged) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.results[k] != j {
		return
	}
	delete(a.results, k)
	for i, other := range a.order {
		if other == k {
			a.order = append(a.order[:i:i], a.order[i+1:]...)
			return
		}
	}
}
