package verify

import (
	"encoding/json"
	"encoding/json/jsontext"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// TestInitPolicyQuotes: text that others chose can't become a line of the
// policy.
func TestInitPolicyQuotes(t *testing.T) {
	w := newWorld(t, sim.Config{})
	evil := "x\n[power]\nallow = [\"privileged\"]\x7f\""
	c := w.claims("")
	c.Host.Unit = evil
	opts := w.options()
	opts.Policy = policyOf(t, appraiseT(t, encode(t, w.seal(c, w.key)), opts))
	if refused := opts.Policy.JudgePower([]string{"privileged"}); len(refused) != 1 {
		t.Error("power is allowed")
	}
	expect(t, appraiseT(t, encode(t, w.seal(c, w.key)), opts), Trusted)
	c.Host.Unit = "x"
	expect(t, appraiseT(t, encode(t, w.seal(c, w.key)), opts), NotTrusted, StepCallerValues)
	for name, argument := range map[string]string{"a line": "x\n[host]\nany = true", "the end of a text": "'''\n[host]\nany = true\nx = '''", "DEL": "\x7f"} {
		id := "a\nany = true" + name
		asked, err := json.Marshal(map[string]any{"arguments": []string{argument}})
		if err != nil {
			t.Fatal(err)
		}
		w.own(id, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked":`+string(asked)+`,"defaults":{}}`)
		w.own(id, logs.OpImage, `{"reference":"r\n[host]\nany = true","digest":"sha256:x\ny"}`)
		bundle := encode(t, w.evidence(id))
		opts.Policy = nil
		opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
		if found, _, err := opts.Policy.JudgeHost("x", jsontext.Value("{}")); err != nil || found[0].OK {
			t.Errorf("%s: any process of the host is allowed", name)
		}
		expect(t, appraiseT(t, bundle, opts), Trusted)
	}
}

func TestInitPolicyOfForgery(t *testing.T) {
	w := twoContainers(t)
	e := w.evidence(idOne)
	e.AgentSignature[0] ^= 1
	if text, _, err := InitPolicy([]*Result{appraiseT(t, encode(t, e), w.options())}, nil); err == nil {
		t.Errorf("made from a forgery:\n%s", text)
	}
	if text, _, err := InitPolicy([]*Result{appraiseT(t, nil, w.options())}, nil); err == nil {
		t.Errorf("made from nothing:\n%s", text)
	}
}

func TestInitPolicySaysToCheck(t *testing.T) {
	w := twoContainers(t)
	text, _, err := InitPolicy([]*Result{appraiseT(t, encode(t, w.evidence(idOne)), w.options())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "CHECK EACH") || !strings.Contains(string(text), "nothing here says who wrote it") {
		t.Errorf("no warning in\n%s", text)
	}
}

// A policy made from evidence has fs-verity's digest of programs without
// another digest.
func TestPolicyInitOnVerity(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.launch(idOne, "one", "/bin/one")
	both, alone := "sha256:"+strings.Repeat("aa", 32), "sha512:"+strings.Repeat("bb", 64)
	for _, e := range []string{
		`{"path":"/bin/one","sha384":"` + (rpc.Digest{1}).String() + `","verity":"` + both + `"}`,
		`{"path":"/large","verity":"` + alone + `"}`, `{"path":"/the same","verity":"` + alone + `"}`,
	} {
		w.own(idOne, logs.OpExec, e)
	}
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	text := textOf(t, appraiseT(t, bundle, opts))
	if want := `execs = ["` + (rpc.Digest{1}).String() + `","` + alone + `"]  # as first seen`; !strings.Contains(text, want) {
		t.Errorf("%q is not in\n%s", want, text)
	}
	opts.Policy = parsePolicy(t, text)
	if r := appraiseT(t, bundle, opts); r.Verdict != Trusted {
		t.Errorf("%s", r.Verdict)
	}
}

// What was seen is no permission: power is not allowed, what was missed is forbidden, and
// what is not proved is not waived (ATTACKS, V6).
func TestInitAllowsNoPower(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.public(logs.OpPower, `{"classes":["privileged"]}`)
	w.public(logs.OpMissed, `{"count":1,"what":"launch","why":"x"}`)
	w.asked(idOne, "one", `{"arguments":["/bin/one","--nonce=1","--id=0a1b2c3d4e5f60718293a4b5"]}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	text, notes, err := InitPolicy([]*Result{appraiseT(t, bundle, opts)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(notes, "\n")
	for _, want := range []string{"privileged", "was not measured", "--nonce=1", "--id=0a1b"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %q", want, notes)
		}
	}
	opts.Policy = parsePolicy(t, string(text))
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepPower, StepEvents, StepNotProved)
	if strings.Contains(string(text), "[tcb]") {
		t.Errorf("a TCB that nobody told of:\n%s", text)
	}
	for _, code := range []string{"collateral", "missed-launch", "host-input-unknown"} {
		if !strings.Contains(string(text), "#  \""+code+"\"") {
			t.Errorf("%s is not told, or waived:\n%s", code, text)
		}
	}
	if _, _, err := InitPolicy([]*Result{appraiseT(t, bundle, opts)}, []string{"volumes"}); err == nil {
		t.Error("what can't be waived was")
	}
	if _, _, err := InitPolicy([]*Result{appraiseT(t, bundle, opts)}, []string{"colateral"}); err == nil || !strings.Contains(err.Error(), `did you mean "collateral"?`) {
		t.Error(err)
	}
}

// Several evidences make one policy, which all of them meet.
func TestInitFromSeveral(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	var results []*Result
	for _, id := range []string{idOne, idTwo, idOne, ""} {
		results = append(results, appraiseT(t, encode(t, w.evidence(id)), opts))
	}
	text, _, err := InitPolicy(results, []string{"collateral", "host-input-unknown"})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "[[container]]"); n != 2 || strings.Count(string(text), "[image.") != 2 || strings.Count(string(text), "[system.") != 1 {
		t.Errorf("%d containers in\n%s", n, text)
	}
	opts.Policy = parsePolicy(t, string(text))
	for _, id := range []string{idOne, idTwo, ""} {
		expect(t, appraiseT(t, encode(t, w.evidence(id)), opts), Trusted)
	}
}
