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

	"github.com/cima-project/cima/hw/verify"
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

// result appraises, or waits for the one who appraises the same.
func (a *Appraiser) result(ctx context.Context, evidence, nonce, userData []byte) (*verify.Result, error) {
	j, mine := a.place(key(evidence, nonce, userData))
	if mine {
		opts := a.Options
		opts.Nonce, opts.UserData = nonce, &userData
		// Others wait for it, so that it ends neither with this session nor by its deadline.
		appraise := verify.Appraise
		if a.appraise != nil {
			appraise = a.appraise
		}
		j.result, j.err = appraise(context.WithoutCancel(ctx), evidence, opts)
		if j.err != nil {
			a.forget(key(evidence, nonce, userData), j)
		}
		close(j.done)
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

func (a *Appraiser) place(k [48]byte) (j *judged, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now
	if a.now != nil {
		now = a.now
	}
	for len(a.order) > 0 && (len(a.order) >= kept || now().Sub(a.results[a.order[0]].made) >= keptFor) {
		delete(a.results, a.order[0])
		a.order = a.order[1:]
	}
	if j := a.results[k]; j != nil {
		return j, false
	}
	if a.results == nil {
		a.results = make(map[[48]byte]*judged)
	}
	j = &judged{made: now(), done: make(chan struct{})}
	a.results[k], a.order = j, append(a.order, k)
	return j, true
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
