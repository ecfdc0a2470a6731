package verify

import (
	"context"
	"crypto/sha512"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
)

// expect checks the verdict, and that the steps named fail and no others.
func expect(t *testing.T, r *Result, verdict Verdict, failed ...string) {
	t.Helper()
	var got []string
	for _, s := range r.Failed() {
		got = append(got, s.Name)
	}
	if r.Verdict != verdict || r.ExitCode != verdict.ExitCode() || strings.Join(got, " ") != strings.Join(failed, " ") {
		var b strings.Builder
		r.WriteTable(&b)
		t.Errorf("verdict %q (exit %d), failed %q; want %q, %q\n%s", r.Verdict, r.ExitCode, got, verdict, failed, &b)
	}
}

func TestTrustedUnderItsOwnPolicy(t *testing.T) {
	w := twoContainers(t)
	for _, id := range []string{idOne, idTwo, ""} {
		bundle := encode(t, w.evidence(id))
		opts := w.options()
		first := appraiseT(t, bundle, opts)
		expect(t, first, NotTrusted)
		if s := first.Step(StepBootValues); s.Outcome != Skip || !strings.Contains(first.Reason, StepBootValues) {
			t.Errorf("without a policy: step %+v, reason %q", s, first.Reason)
		}
		opts.Policy = policyOf(t, first)
		second := appraiseT(t, bundle, opts)
		expect(t, second, Trusted)
		if second.Reason != "" || second.Hint != "" {
			t.Errorf("trusted, and yet reason %q, hint %q", second.Reason, second.Hint)
		}
	}
}

func TestCertificatesOfAnotherTime(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	for _, years := range []int{-20, 20} {
		opts.At = time.Now().AddDate(years, 0, 0)
		r := appraiseT(t, encode(t, w.evidence(idOne)), opts)
		expect(t, r, NotAuthentic, StepQuote)
		if !strings.Contains(r.Hint, "--at") {
			t.Errorf("%d years from now: hint %q", years, r.Hint)
		}
	}
}

func TestQuoteVersion5(t *testing.T) {
	w := newWorld(t, sim.Config{QuoteVersion: 5})
	w.launch(idOne, "one", "/bin/one")
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()), NotTrusted)
}

func TestLaterEventsAreShownNotJudged(t *testing.T) {
	w := twoContainers(t)
	c := w.claims(idOne)
	w.launch("3333", "three", "/bin/three")
	w.public(logs.OpPower, `{"classes":["privileged"]}`)
	w.own(idOne, logs.OpExec, `{"path":"/bin/later","sha384":"`+strings.Repeat("0a", 48)+`"}`)
	opts := w.options()
	bundle := encode(t, w.seal(c, w.key))
	opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
	if p := opts.Policy; len(p.Power.Allow) != 0 || p.Container.Execs != nil {
		t.Errorf("policy made of events that were not judged: %+v", p)
	}
	r := appraiseT(t, bundle, opts)
	expect(t, r, Trusted)
	if n := len(r.Events); n != len(w.log) || r.Events[n-1].Judged || !r.Events[c.Log.Count-1].Judged {
		t.Errorf("events shown: %+v", r.Events)
	}
	if s := r.Step(StepRuntimeLog); !strings.Contains(s.Detail, "4 came after") {
		t.Errorf("detail %q", s.Detail)
	}
}

func TestRootNotGiven(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	opts.TrustRoots = nil
	r := appraiseT(t, encode(t, w.evidence(idOne)), opts)
	expect(t, r, NotAuthentic, StepQuote)
	if r.ExitCode != 2 || !strings.Contains(r.Hint, "simulated") || !strings.Contains(r.Reason, "NOT HARDWARE") {
		t.Errorf("exit %d, hint %q, reason %q", r.ExitCode, r.Hint, r.Reason)
	}
	opts.TrustRoots = twoContainers(t).roots() // another simulated TD's
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotAuthentic, StepQuote)
}

func TestExpired(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	opts.At = time.Now().AddDate(60, 0, 0)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotAuthentic, StepQuote)
}

func TestDebug(t *testing.T) {
	w := newWorld(t, sim.Config{Debug: true})
	w.launch(idOne, "one", "/bin/one")
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepDebug)
	opts.Policy = &policy.Policy{TD: policy.TD{AllowDebug: true}}
	r := appraiseT(t, bundle, opts)
	if s := r.Step(StepDebug); s.Outcome != Warn {
		t.Errorf("allowed by policy: %+v", s)
	}
}

func TestNonceAndUserData(t *testing.T) {
	w := twoContainers(t)
	c := w.claims(idOne)
	c.UserData = []byte("key of the channel")
	bundle := encode(t, w.seal(c, w.key))

	opts := w.options()
	opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
	r := appraiseT(t, bundle, opts)
	expect(t, r, Trusted)
	if s := r.Step(StepUserData); s.Outcome != Skip || !strings.HasPrefix(s.Detail, "channel: not bound") {
		t.Errorf("nobody looked at user data: %+v", s)
	}
	opts.UserData = &c.UserData
	r = appraiseT(t, bundle, opts)
	expect(t, r, Trusted)
	if s := r.Step(StepUserData); s.Outcome != Pass {
		t.Errorf("user data as expected: %+v", s)
	}
	wrong := []byte("key of another channel")
	opts.UserData = &wrong
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepUserData)
	none := []byte{}
	opts.UserData = &none
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepUserData)

	opts.UserData, opts.Nonce = nil, nil
	r = appraiseT(t, bundle, opts)
	expect(t, r, NotTrusted)
	if !strings.HasPrefix(r.Reason, StepNonce) {
		t.Errorf("no nonce given: reason %q", r.Reason)
	}
	opts.Nonce = []byte("replayed, by then")
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepNonce)
}

func TestOptionsAreErrors(t *testing.T) {
	for _, opts := range []Options{{Nonce: []byte("short")}, {Nonce: make([]byte, 65)}, {TrustRoots: twoContainers(t).roots()[:0]}} {
		if _, err := Appraise(context.Background(), nil, opts); err == nil {
			t.Errorf("%+v: no error", opts)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Appraise(ctx, nil, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRestarts(t *testing.T) {
	w := twoContainers(t)
	w.start(w.key)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	r := appraiseT(t, bundle, opts)
	if s := r.Step(StepAgent); s.Outcome != Pass || !strings.Contains(s.Detail, "kept over 1 restarts") {
		t.Errorf("restart with its key: %+v", s)
	}
	opts.Policy = policyOf(t, r)

	w.key = newKey(2)
	w.start(w.key)
	bundle = encode(t, w.evidence(idOne))
	r = appraiseT(t, bundle, opts)
	expect(t, r, NotTrusted, StepEvents)
	if s := r.Step(StepAgent); s.Outcome != Warn {
		t.Errorf("restart with a new key: %+v", s)
	}
	opts.Policy.Agent.AllowNewKey = true
	expect(t, appraiseT(t, bundle, opts), Trusted)

	// The old key is not in force any more.
	c := w.claims(idOne)
	c.Agent = sha512.Sum384(publicOf(newKey(1)))
	expect(t, appraiseT(t, encode(t, w.seal(c, newKey(1))), opts), NotAuthentic, StepAgent)
}

func TestLatestInstanceCounts(t *testing.T) {
	w := twoContainers(t)
	w.own(idOne, logs.OpExit, "")
	opts := w.options()
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotAuthentic, StepCaller) // it ended
	first := w.claims(idOne)
	w.launch(idOne, "one", "/bin/other")
	bundle := encode(t, w.evidence(idOne))
	expect(t, appraiseT(t, bundle, opts), NotTrusted)

	// Claims of the instance before, at today's log.
	c := w.claims(idOne)
	c.Container.LaunchDigest, c.Container.Register = first.Container.LaunchDigest, first.Container.Register
	expect(t, appraiseT(t, encode(t, w.seal(c, w.key)), opts), NotAuthentic, StepCaller)
}

// TestBootLogStaysOutOfRTMR3: a boot log that reaches into the runtime log's
// register, though the agent names it.
func TestBootLogStaysOutOfRTMR3(t *testing.T) {
	w := twoContainers(t)
	longer := boot.AppendEvent(w.bootLog(), boot.Event{MR: 4, Type: boot.EvEventTag, Data: []byte("x")})
	c := w.claims(idOne)
	c.BootLog = sha512.Sum384(longer)
	e := w.seal(c, w.key)
	e.BootLog = longer
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepBootLog)

	longer = boot.AppendEvent(w.bootLog(), boot.Event{MR: 1, Type: boot.EvEventTag, Data: []byte("x")})
	c.BootLog = sha512.Sum384(longer)
	e = w.seal(c, w.key)
	e.BootLog = longer
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepBootLog)
}

func TestOneImage(t *testing.T) {
	w := twoContainers(t)
	w.own(idOne, logs.OpImage, `{"reference":"registry/one:2"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()), NotAuthentic, StepCaller)
}

func TestReportDataAnchor(t *testing.T) {
	w := twoContainers(t)
	var foreign [48]byte
	if err := w.td.Extend(context.Background(), foreign); err != nil {
		t.Fatal(err)
	}
	c := w.claims(idOne)
	expect(t, appraiseT(t, encode(t, w.seal(c, w.key)), w.options()), NotAuthentic, StepRuntimeLog)

	c.Log.Anchor = "report-data"
	bundle, opts := encode(t, w.seal(c, w.key)), w.options()
	r := appraiseT(t, bundle, opts)
	expect(t, r, NotTrusted)
	if s := r.Step(StepRuntimeLog); s.Outcome != Warn || !strings.Contains(s.Detail, "not judged") {
		t.Errorf("step %+v", s)
	}
	if all := strings.Join(r.NotProved, "\n"); !strings.Contains(all, "RTMR3 is not its anchor") {
		t.Errorf("not said: %s", all)
	}
	made := policyOf(t, r)
	made.Agent.Anchors = []string{"rtmr3"} // the default
	opts.Policy = made
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepEvents)
	made.Agent.Anchors = []string{"rtmr3", "report-data"}
	expect(t, appraiseT(t, bundle, opts), Trusted)

	// What follows the claims is under nothing at all.
	e := w.seal(c, w.key)
	e.RuntimeLog = append(e.RuntimeLog, e.RuntimeLog[1])
	expect(t, appraiseT(t, encode(t, e), opts), NotAuthentic, StepRuntimeLog)
}
