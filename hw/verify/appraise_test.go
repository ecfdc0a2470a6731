package verify

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
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

// TestForged changes evidence after it was made, with no key at hand.
func TestForged(t *testing.T) {
	w := twoContainers(t)
	other := twoContainers(t)
	other.public(logs.OpMissed, `{"why":"x"}`)
	fits := policyOf(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
	for name, c := range map[string]struct {
		forge  func(e *rpc.Evidence)
		failed []string
	}{
		"claims changed": {func(e *rpc.Evidence) {
			e.Claims = bytes.Replace(e.Claims, []byte(`"docker"`), []byte(`"podman"`), 1)
		}, []string{StepReportData, StepAgent}},
		"unknown member added to the claims": {func(e *rpc.Evidence) {
			e.Claims = bytes.Replace(e.Claims, []byte(`"agent"`), []byte(`"aaa":1,"agent"`), 1)
		}, []string{StepReportData, StepAgent}},
		"signature of another": {func(e *rpc.Evidence) {
			e.AgentSignature[3] ^= 1
		}, []string{StepAgent}},
		"quote of the other container": {func(e *rpc.Evidence) {
			e.Quote = w.evidence(idTwo).Quote
		}, []string{StepReportData}},
		"claims, quote and signature of the other container": {func(e *rpc.Evidence) {
			o := w.evidence(idTwo)
			e.Claims, e.Quote, e.AgentSignature = o.Claims, o.Quote, o.AgentSignature
		}, []string{StepCaller}},
		"boot log of another boot": {func(e *rpc.Evidence) {
			e.BootLog = append(e.BootLog, e.BootLog[len(e.BootLog)-60:]...)
		}, []string{StepBootLog}},
		"runtime log of another boot": {func(e *rpc.Evidence) {
			e.RuntimeLog = other.view(idOne)
		}, []string{StepRuntimeLog, StepClaims}},
		"event dropped": {func(e *rpc.Evidence) {
			e.RuntimeLog = append(e.RuntimeLog[:1:1], e.RuntimeLog[2:]...)
		}, []string{StepRuntimeLog, StepClaims}},
		"last event dropped": {func(e *rpc.Evidence) {
			e.RuntimeLog = e.RuntimeLog[:len(e.RuntimeLog)-1]
		}, []string{StepRuntimeLog, StepClaims, StepCaller}},
		"event added": {func(e *rpc.Evidence) {
			e.RuntimeLog = append(e.RuntimeLog, e.RuntimeLog[1])
		}, []string{StepRuntimeLog}},
		"event duplicated": {func(e *rpc.Evidence) {
			e.RuntimeLog = append(e.RuntimeLog[:2:2], e.RuntimeLog[1:]...)
		}, []string{StepRuntimeLog, StepClaims, StepCaller}},
		"events swapped": {func(e *rpc.Evidence) {
			l := e.RuntimeLog
			l[2], l[3] = l[3], l[2]
		}, []string{StepRuntimeLog, StepClaims, StepCaller}},
		"event 0 swapped": {func(e *rpc.Evidence) {
			l := e.RuntimeLog
			l[0], l[1] = l[1], l[0]
		}, []string{StepAgent, StepRuntimeLog, StepClaims}},
		"public event stripped": {func(e *rpc.Evidence) {
			d := w.log[1].Digest()
			e.RuntimeLog[1] = rpc.LogEntry{Digests: d[:]}
		}, []string{StepClaims}},
		"start event stripped": {func(e *rpc.Evidence) {
			d := w.log[0].Digest()
			e.RuntimeLog[0] = rpc.LogEntry{Digests: d[:]}
		}, []string{StepAgent, StepClaims}},
		"own event stripped": {func(e *rpc.Evidence) {
			n := len(e.RuntimeLog) - 1
			d := w.log[len(w.log)-1].Digest()
			e.RuntimeLog = hide(e.RuntimeLog[:n], d)
		}, []string{StepCaller}},
		"own launch stripped": {func(e *rpc.Evidence) {
			d := w.log[2].Digest()
			e.RuntimeLog[2] = rpc.LogEntry{Digests: d[:]}
		}, []string{StepCaller}},
		"own image stripped": {func(e *rpc.Evidence) {
			d := w.log[3].Digest()
			e.RuntimeLog[3] = rpc.LogEntry{Digests: d[:]}
			e.RuntimeLog = append(e.RuntimeLog[:4:4], e.RuntimeLog[4:]...)
			e.RuntimeLog[3].Digests = append(e.RuntimeLog[3].Digests, e.RuntimeLog[4].Digests...)
			e.RuntimeLog = append(e.RuntimeLog[:4], e.RuntimeLog[5:]...)
		}, []string{StepCaller}},
		"another's event shown": {func(e *rpc.Evidence) {
			d := w.log[5].Digest()
			e.RuntimeLog[4] = rpc.LogEntry{Event: w.log[4].Bytes()}
			rest := append([]rpc.LogEntry{{Digests: d[:]}}, e.RuntimeLog[5:]...)
			e.RuntimeLog = append(e.RuntimeLog[:5:5], rest...)
		}, []string{StepCaller}},
		"everything hidden": {func(e *rpc.Evidence) {
			e.RuntimeLog = nil
			for _, ev := range w.log {
				e.RuntimeLog = hide(e.RuntimeLog, ev.Digest())
			}
		}, []string{StepAgent, StepClaims, StepCaller}},
		"os log added": {func(e *rpc.Evidence) {
			e.OSLogs = []rpc.OSLog{{Register: "rtmr2", Format: "ima-ascii", Entries: imaLine}}
		}, []string{StepBootLog}},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.evidence(idOne)
			c.forge(e)
			opts := w.options()
			opts.Policy = fits
			r := appraiseT(t, encode(t, e), opts)
			expect(t, r, NotAuthentic, c.failed...)
			for _, name := range []string{StepBootValues, StepCallerValues, StepPower, StepEvents} {
				if s := r.Step(name); s.Outcome != Skip {
					t.Errorf("a forgery was held against the policy: %+v", s)
				}
			}
		})
	}
}

// imaLine is an entry whose template hash is right.
var imaLine = []byte("10 1af52e59f4ca0a3ba7a9a5d20d1a4e4b2ba3e1b0 ima-ng sha1:0000000000000000000000000000000000000000 boot_aggregate\n")

// TestLyingAgent has claims that the agent's own key signed and that the log
// contradicts: a daemon gone wrong, or somebody with its key.
func TestLyingAgent(t *testing.T) {
	w := twoContainers(t)
	for name, c := range map[string]struct {
		lie    func(c *rpc.Claims)
		failed []string
	}{
		"agent":              {func(c *rpc.Claims) { c.Agent[0] ^= 1 }, []string{StepAgent}},
		"nonce":              {func(c *rpc.Claims) { c.Nonce = []byte("another nonce") }, []string{StepNonce}},
		"boot log":           {func(c *rpc.Claims) { c.BootLog[0] ^= 1 }, []string{StepBootLog}},
		"count too high":     {func(c *rpc.Claims) { c.Log.Count = 99 }, []string{StepRuntimeLog, StepClaims}},
		"count too low":      {func(c *rpc.Claims) { c.Log.Count-- }, []string{StepClaims, StepCaller}},
		"count 0":            {func(c *rpc.Claims) { c.Log.Count = 0 }, []string{StepAgent, StepClaims, StepCaller}},
		"register":           {func(c *rpc.Claims) { c.Log.Register[0] ^= 1 }, []string{StepClaims}},
		"public register":    {func(c *rpc.Claims) { c.Log.Public[0] ^= 1 }, []string{StepClaims}},
		"container register": {func(c *rpc.Claims) { c.Container.Register[0] ^= 1 }, []string{StepCaller}},
		"launch digest":      {func(c *rpc.Claims) { c.Container.LaunchDigest[0] ^= 1 }, []string{StepCaller}},
		"image":              {func(c *rpc.Claims) { c.Container.Image = "registry/two:1" }, []string{StepCaller}},
		"image digest":       {func(c *rpc.Claims) { c.Container.ImageDigest = imageDigestOf("two") }, []string{StepCaller}},
		"cgroup owner":       {func(c *rpc.Claims) { c.Container.Assurance.CgroupOwner = 1000 }, []string{StepCaller}},
		"unknown container":  {func(c *rpc.Claims) { c.Container.ID = "44" }, []string{StepCaller}},
	} {
		t.Run(name, func(t *testing.T) {
			claims := w.claims(idOne)
			c.lie(claims)
			e := w.seal(claims, w.key)
			expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, c.failed...)
		})
	}
}

// TestRequoted is another service of the guest that quotes bytes it is handed:
// a true quote over forged claims, and no agent's key.
func TestRequoted(t *testing.T) {
	w := twoContainers(t)
	expect(t, appraiseT(t, encode(t, w.seal(w.claims(idOne), newKey(9))), w.options()), NotAuthentic, StepAgent)
	c := w.claims(idOne)
	c.Agent = sha512.Sum384(publicOf(newKey(9)))
	expect(t, appraiseT(t, encode(t, w.seal(c, newKey(9))), w.options()), NotAuthentic, StepAgent)
}

func TestHostShowsNobodysEvents(t *testing.T) {
	w := twoContainers(t)
	e := w.evidence("")
	e.RuntimeLog = w.view(idOne)
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepCaller)
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
	opts.Policy = &Policy{TD: TDPolicy{AllowDebug: true}}
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
	if s := r.Step(StepAgent); s.Outcome != Pass || !strings.Contains(s.Detail, "restarted 1 times") {
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
	longer := logs.AppendBootEvent(w.bootLog(), logs.BootEvent{MR: 4, Type: logs.EvEventTag, Data: []byte("x")})
	c := w.claims(idOne)
	c.BootLog = sha512.Sum384(longer)
	e := w.seal(c, w.key)
	e.BootLog = longer
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepBootLog)

	longer = logs.AppendBootEvent(w.bootLog(), logs.BootEvent{MR: 1, Type: logs.EvEventTag, Data: []byte("x")})
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

func TestMalformed(t *testing.T) {
	w := twoContainers(t)
	for name, forge := range map[string]func(e *rpc.Evidence){
		"quote empty":             func(e *rpc.Evidence) { e.Quote = nil },
		"quote with a tail":       func(e *rpc.Evidence) { e.Quote = append(e.Quote, 0) },
		"quote cut":               func(e *rpc.Evidence) { e.Quote = e.Quote[:len(e.Quote)-1] },
		"boot log with padding":   func(e *rpc.Evidence) { *e = *padBootLog(w) },
		"no event":                func(e *rpc.Evidence) { e.RuntimeLog[0].Event = []byte("AELA") },
		"half a digest":           func(e *rpc.Evidence) { e.RuntimeLog[4].Digests = e.RuntimeLog[4].Digests[:47] },
		"a run of digests in two": splitRun,
		"profile":                 func(e *rpc.Evidence) { e.Profile += "/" },
		"tee":                     func(e *rpc.Evidence) { e.TEE = "snp" },
	} {
		t.Run(name, func(t *testing.T) {
			e := w.evidence(idOne)
			forge(e)
			expect(t, appraiseT(t, encode(t, e), w.options()), Malformed, StepFormat)
		})
	}
	good := encode(t, w.evidence(idOne))
	for name, bundle := range map[string][]byte{
		"nothing":      nil,
		"no JSON":      []byte("quote"),
		"null":         []byte("null"),
		"cut":          good[:len(good)/2],
		"tail":         append(bytes.Clone(good), "{}"...),
		"twice":        bytes.Replace(good, []byte(`"tee":`), []byte(`"tee":"tdx","tee":`), 1),
		"case variant": bytes.Replace(good, []byte(`"tee":`), []byte(`"Tee":`), 1),
		"unknown":      bytes.Replace(good, []byte(`"tee":`), []byte(`"x":1,"tee":`), 1),
		"too large":    make([]byte, rpc.MaxEvidence+1),
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, appraiseT(t, bundle, w.options()), Malformed, StepFormat)
		})
	}
}

// padBootLog is evidence whose claims name the boot log with its padding.
func padBootLog(w *world) *rpc.Evidence {
	padded := append(w.bootLog(), bytes.Repeat([]byte{0xFF}, 16)...)
	c := w.claims(idOne)
	c.BootLog = sha512.Sum384(padded)
	e := w.seal(c, w.key)
	e.BootLog = padded
	return e
}

// splitRun writes the first run of digests, which has two, as two runs.
func splitRun(e *rpc.Evidence) {
	run := e.RuntimeLog[4].Digests
	rest := append([]rpc.LogEntry{{Digests: run[:48]}, {Digests: run[48:]}}, e.RuntimeLog[5:]...)
	e.RuntimeLog = append(e.RuntimeLog[:4:4], rest...)
}

// TestTable: what a reader must be told, told, on a screen.
func TestTable(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.launch(idOne, `one\u001b[2J\u202e`, "/bin/one")
	c := w.claims(idOne)
	c.Container.Assurance.Start, c.Container.Assurance.PIDFD = "observed", false
	bundle, opts := encode(t, w.seal(c, w.key)), w.options()
	first := appraiseT(t, bundle, opts)
	opts.Policy = policyOf(t, first)
	opts.Policy.Boot[0].Name = "release 7"
	second := appraiseT(t, bundle, opts)
	expect(t, second, Trusted)

	for _, c := range []struct {
		r    *Result
		says []string
		not  []string
	}{
		{first, []string{
			"who wrote it: no reference value covers the boot", "channel: not bound", "that this is hardware",
			"what ran before the container was measured", "a program without an exec event may have run all the same",
			"patched", "the kernel gave its number only", "authentic, not trusted: boot-values", "hint: ", "fresh",
		}, []string{"you know"}},
		{second, []string{
			`you know who wrote firmware, kernel and agent: the boot "release 7"`, "you know who asked", "\ntrusted\n",
			"channel: not bound", "what ran before the container was measured",
		}, []string{"who wrote it:", "hint:"}},
	} {
		var b strings.Builder
		if err := c.r.WriteTable(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.says {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%q is not in\n%s", want, &b)
			}
		}
		for _, bad := range append(c.not, "\x1b", "\u202e") {
			if strings.Contains(b.String(), bad) {
				t.Errorf("%q is in\n%s", bad, &b)
			}
		}
		if lines := strings.Count(b.String(), "\n"); lines > 40 {
			t.Errorf("%d lines are no screen\n%s", lines, &b)
		}
	}
}

func TestResultIsJSON(t *testing.T) {
	w := twoContainers(t)
	text, err := json.Marshal(appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Verdict  string
		ExitCode int `json:"exit_code"`
		Steps    []struct{ Name, Outcome, Detail string }
		Claims   struct{ Nonce []byte }
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.Verdict != "authentic, not trusted" || back.ExitCode != 4 || len(back.Steps) != len(steps) ||
		back.Steps[0].Name != "format" || back.Steps[0].Outcome != "pass" || !bytes.Equal(back.Claims.Nonce, testNonce) {
		t.Errorf("read back: %+v\n%s", back, text)
	}
	if strings.Contains(string(text), base64.StdEncoding.EncodeToString(w.log[1].Bytes())) {
		t.Error("measured events are base64, not JSON")
	}
}
