package verify

import (
	"encoding/json"
	"slices"
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
	p := policyOf(t, appraiseT(t, encode(t, w.seal(c, w.key)), opts))
	if len(p.Power.Allow) != 0 || !slices.Equal(p.Host.Units, []string{evil}) {
		t.Errorf("policy %+v", p)
	}
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
		if p := opts.Policy; p.Host.Any || p.Container.Any || len(p.Container.References) != 1 {
			t.Errorf("%s: policy %+v", name, p)
		}
		expect(t, appraiseT(t, bundle, opts), Trusted)
	}
}

func TestInitPolicyOfForgery(t *testing.T) {
	w := twoContainers(t)
	e := w.evidence(idOne)
	e.AgentSignature[0] ^= 1
	if text, err := InitPolicy(appraiseT(t, encode(t, e), w.options())); err == nil {
		t.Errorf("made from a forgery:\n%s", text)
	}
	if text, err := InitPolicy(appraiseT(t, nil, w.options())); err == nil {
		t.Errorf("made from nothing:\n%s", text)
	}
}

func TestInitPolicySaysToCheck(t *testing.T) {
	w := twoContainers(t)
	text, err := InitPolicy(appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
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
	p := policyOf(t, appraiseT(t, bundle, opts))
	if got := p.Container; len(got.Execs) != 1 || got.Execs[0] != (rpc.Digest{1}) || len(got.ExecVerity) != 1 || got.ExecVerity[0] != alone || got.AllowMissed {
		t.Errorf("%+v", got)
	}
	opts.Policy = p
	if r := appraiseT(t, bundle, opts); r.Verdict != Trusted {
		t.Errorf("%s", r.Verdict)
	}
}
