package verify

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/google/go-tdx-guest/testing/testdata"
)

// expect checks the verdict, and that exactly the named steps fail.
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
	made := textOf(t, appraiseT(t, bundle, opts))
	opts.Policy = parsePolicy(t, made)
	if strings.Contains(made, "privileged") || strings.Contains(made, "execs = ") {
		t.Errorf("policy made of events that were not judged:\n%s", made)
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

// TestNothingIsPrinted: the quote library's logger writes to the stdout that it
// finds at start, so this runs in a process of its own.
func TestNothingIsPrinted(t *testing.T) {
	const child = "CIMA_TEST_APPRAISE_AND_EXIT"
	if os.Getenv(child) != "" {
		w := twoContainers(t)
		e := w.evidence(idOne)
		appraiseT(t, encode(t, e), w.options())
		appraiseT(t, encode(t, e), Options{})
		e.Quote = cut(t, testdata.RawQuote)
		appraiseT(t, encode(t, e), Options{})
		os.Exit(0)
	}
	self := exec.Command(os.Args[0], "-test.run=^TestNothingIsPrinted$")
	self.Env = append(os.Environ(), child+"=1")
	if printed, err := self.CombinedOutput(); err != nil || len(printed) > 0 {
		t.Errorf("printed %q, %v", printed, err)
	}
}
