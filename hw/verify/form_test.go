package verify

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/rpc"
)

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
	if back.Verdict != "authentic, not trusted" || back.ExitCode != 4 || len(back.Steps) != len(claimSteps) ||
		back.Steps[0].Name != "format" || back.Steps[0].Outcome != "pass" || !bytes.Equal(back.Claims.Nonce, testNonce) {
		t.Errorf("read back: %+v\n%s", back, text)
	}
	if strings.Contains(string(text), base64.StdEncoding.EncodeToString(w.log[1].Bytes())) {
		t.Error("measured events are base64, not JSON")
	}
}
