package api

import (
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/rpc"
)

// A reload changes what a connected caller may use, and the refusal names the
// limit that was enforced.
func TestReloadOfLimits(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Limits.RequestsPerSecond, c.Limits.RequestsBurst = 1e6, 1e6 })
	c := f.client()
	call := func() error { return c.Call(t.Context(), rpc.MethodGetDefaultAlgorithm, rpc.NoParams{}, nil) }
	for range 5 {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	l := f.config.Limits
	l.RequestsPerSecond, l.RequestsBurst = 0.001, 1
	f.api.Reload(l)
	err := call()
	for err == nil { // uses up the tokens of the burst
		err = call()
	}
	e := wantCode(t, err, rpc.CodeRateLimited)
	if !strings.Contains(e.Message, "more than 0.001 requests") || e.RetryAfter() < time.Minute {
		t.Errorf("a retry after %v at one request in 1000 s: %s", e.RetryAfter(), e.Message)
	}
	l.RequestsPerSecond, l.RequestsBurst = 1e6, 1e6
	f.api.Reload(l)
	daemontest.Eventually(t, "the caller is answered again", func() bool { return call() == nil })
}
