package verify

import (
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

// Where the daemon shows nothing of others, its word for the log is all there is:
// the result says so, and a policy must allow it.
func TestPrivateLog(t *testing.T) {
	w := twoContainers(t)
	replays := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
	strict := policyOf(t, replays)
	c := w.claims(idOne)
	c.Log.View = rpc.ViewPrivate
	good := w.seal(c, w.key)
	whole := good.RuntimeLog
	good.RuntimeLog = slices.DeleteFunc(slices.Clone(whole), func(r rpc.LogEntry) bool { return r.Digests != nil })
	r := appraiseT(t, encode(t, good), w.options())
	expect(t, r, NotTrusted)
	if s := r.Step(StepRuntimeLog); s.Outcome != Warn || !strings.Contains(s.Detail, "not judged") {
		t.Errorf("%+v", s)
	}
	words := strings.Join(r.NotProved, " ")
	if strings.Contains(strings.Join(r.Proved, " "), "whole") || !strings.Contains(words, "doesn't replay") {
		t.Errorf("proved %q, not proved %q", r.Proved, words)
	}
	for name, tt := range map[string]struct {
		policy *policy.Policy
		want   Verdict
	}{"one of a log that replays": {strict, NotTrusted}, "its own": {policyOf(t, r), Trusted}} {
		opts := w.options()
		opts.Policy = tt.policy
		if got := appraiseT(t, encode(t, good), opts); got.Verdict != tt.want {
			t.Errorf("%s: %s: %s", name, got.Verdict, got.Reason)
		}
	}
	lacking := func(i int) []rpc.LogEntry { return slices.Delete(slices.Clone(good.RuntimeLog), i, i+1) }
	for i := range good.RuntimeLog {
		e := *good
		if e.RuntimeLog = lacking(i); appraiseT(t, encode(t, &e), w.options()).Verdict != NotAuthentic {
			t.Errorf("record %d is not missed", i)
		}
	}
	e := *good
	e.RuntimeLog = whole
	expect(t, appraiseT(t, encode(t, &e), w.options()), NotAuthentic, StepRuntimeLog)
	// A log that is to replay isn't taken with records left out.
	c.Log.View = ""
	e = *w.seal(c, w.key)
	e.RuntimeLog = good.RuntimeLog
	if r := appraiseT(t, encode(t, &e), w.options()); r.Verdict != NotAuthentic {
		t.Errorf("without the claim: %s", r.Verdict)
	}
}
