package peers

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counting is an Appraiser whose appraisal is counted, and trusts the evidence "good"
// alone.
func counting(t *testing.T) (*Appraiser, *atomic.Int64) {
	t.Helper()
	n := new(atomic.Int64)
	return &Appraiser{Options: verify.Options{Policy: new(policy.Policy)}, appraise: func(_ context.Context, evidence []byte, opts verify.Options) (*verify.Result, error) {
		n.Add(1)
		r := &verify.Result{Verdict: verify.NotAuthentic, Reason: "bad"}
		switch {
		case string(evidence) == "error":
			return nil, errCollateral
		case string(evidence) == "good" && string(opts.Nonce) == "nonce" && string(*opts.UserData) == "data":
			r.Verdict = verify.Trusted
		}
		return r, nil
	}}, n
}

var errCollateral = errors.New("no collateral")

func TestSameEvidenceIsAppraisedOnce(t *testing.T) {
	a, n := counting(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := a.Appraise(t.Context(), []byte("good"), []byte("nonce"), []byte("data")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n.Load() != 1 {
		t.Errorf("appraised %d times", n.Load())
	}
}

// A kept result is of this evidence, this nonce and these user data, and no other cut of
// the same bytes.
func TestNothingElseFindsAResult(t *testing.T) {
	a, n := counting(t)
	for _, try := range [][3]string{{"good", "nonce", "data"}, {"good", "nonc", "edata"}, {"goodn", "once", "data"}, {"good", "nonce", "datb"}, {"good", "other", "data"}, {"bad", "nonce", "data"}} {
		var refused *RefusedError
		err := a.Appraise(t.Context(), []byte(try[0]), []byte(try[1]), []byte(try[2]))
		if good := try == [3]string{"good", "nonce", "data"}; good != (err == nil) || !good && !errors.As(err, &refused) {
			t.Errorf("%q: %v", try, err)
		}
	}
	if n.Load() != 6 {
		t.Errorf("appraised %d times, want 6", n.Load())
	}
}

func TestErrorsAndOldResultsAreNotKept(t *testing.T) {
	a, n := counting(t)
	now := time.Unix(1e9, 0)
	a.now = func() time.Time { return now }
	for range 2 {
		if err := a.Appraise(t.Context(), []byte("error"), nil, nil); !errors.Is(err, errCollateral) {
			t.Error(err)
		}
	}
	a.Appraise(t.Context(), []byte("good"), []byte("nonce"), []byte("data"))
	now = now.Add(keptFor)
	a.Appraise(t.Context(), []byte("good"), []byte("nonce"), []byte("data"))
	if n.Load() != 4 || len(a.results) != 1 || len(a.order) != 1 {
		t.Errorf("appraised %d times, %d kept", n.Load(), len(a.results))
	}
	for i := range 100 {
		a.Appraise(t.Context(), []byte{byte(i)}, nil, nil)
	}
	if len(a.results) > kept || len(a.order) != len(a.results) {
		t.Errorf("%d and %d are kept", len(a.results), len(a.order))
	}
}

// Of the largest evidence some are appraised at once, small ones find room beside them, and who
// gives up takes nothing along.
func TestSomeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const large, atOnce = rpc.MaxEvidence - 100, 4
		a, _ := counting(t)
		var now atomic.Int64
		goOn := make(chan struct{})
		a.appraise = func(_ context.Context, evidence []byte, _ verify.Options) (*verify.Result, error) {
			if len(evidence) == large {
				now.Add(1)
				defer now.Add(-1)
				<-goOn
			}
			return &verify.Result{Verdict: verify.Trusted}, nil
		}
		var all sync.WaitGroup
		appraise := func(i, size int) {
			all.Go(func() {
				evidence := make([]byte, size)
				evidence[0] = byte(i)
				if err := a.Appraise(t.Context(), evidence, nil, nil); err != nil {
					t.Error(err)
				}
			})
		}
		for i := range atOnce {
			appraise(i, large)
		}
		synctest.Wait()
		for i := range 20 {
			if err := a.Appraise(t.Context(), []byte{byte(i), 2}, nil, nil); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Appraise(ctx, make([]byte, large), []byte("later"), nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for i := range atOnce {
			appraise(10+i, large)
		}
		for range 2 * atOnce {
			synctest.Wait()
			if now.Load() > atOnce {
				t.Errorf("%d are appraised at once, want %d", now.Load(), atOnce)
			}
			goOn <- struct{}{}
		}
		all.Wait()
		if !a.room.TryAcquire(room) {
			t.Error("some room is not given back")
		}
	})
}

func TestWithoutPolicyNobody(t *testing.T) {
	a, _ := counting(t)
	a.Options.Policy = nil
	if a.Appraise(t.Context(), []byte("good"), []byte("nonce"), []byte("data")) == nil {
		t.Error("somebody is trusted without a policy")
	}
}
