package verify

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// earlierLaunch is a launch as a daemon of evidence profile v1 logged it.
const earlierLaunch = `{"source":"bundle","cgroup_owner":0,"arguments":["/bin/one"],"user":{"uid":0,"gid":0},"capabilities":{"bounding":["CAP_KILL"]},"mounts":[{"destination":"/proc","type":"proc"}]}`

// A daemon that was upgraded goes on with its log. What it launched before is authentic,
// and no policy trusts it.
func TestLaunchOfAnEarlierVersion(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.own(idOne, logs.OpLaunch, earlierLaunch)
	w.image(idOne, "one")
	w.start(w.key) // the upgrade
	w.launch(idTwo, "two", "/bin/two")
	opts := w.options()

	// Containers launched since are not touched by it.
	fits := textOf(t, appraiseT(t, encode(t, w.evidence(idTwo)), opts))
	opts.Policy = parsePolicy(t, fits)
	expect(t, appraiseT(t, encode(t, w.evidence(idTwo)), opts), Trusted)

	bundle := encode(t, w.evidence(idOne))
	opts.Policy = parsePolicy(t, anyLaunch(t, replaced(t, without(t, fits, "[image.", "digests = "), "image = \"two\"", "any = true")))
	r := appraiseT(t, bundle, opts)
	expect(t, r, NotTrusted, StepCallerValues, StepNotProved)
	if s := r.Step(StepCaller); s.Outcome != Warn || !strings.Contains(s.Detail, "earlier version") {
		t.Errorf("%+v", s)
	}
	if text := texts(r.NotProved); !strings.Contains(text, "start it again") {
		t.Errorf("not proved: %s", text)
	}
	if text := texts(r.Proved); strings.Contains(text, "what was started") {
		t.Errorf("proved: %s", text)
	}
	opts.Policy = nil
	if text, _, err := InitPolicy([]*Result{appraiseT(t, bundle, opts)}, nil); err == nil || !strings.Contains(err.Error(), "earlier version") {
		t.Errorf("a policy was made: %v\n%s", err, text)
	}

	// Claims of a launch digest that such a launch doesn't have are lies.
	c := w.claims(idOne)
	c.Container.LaunchDigest = rpc.Digest{1}
	expect(t, appraiseT(t, encode(t, w.seal(c, w.key)), opts), NotAuthentic, StepCaller)
}

// Evidence of profile v1 is refused, and the hint says what reads it.
func TestEvidenceOfAnEarlierVersion(t *testing.T) {
	text := strings.Replace(string(encode(t, twoContainers(t).evidence(idOne))), "/evidence/v2", "/evidence/v1", 1)
	r := appraiseT(t, []byte(text), Options{})
	expect(t, r, Malformed, StepFormat)
	for _, want := range []string{"profile v1", "reads profile v2", "cimactl of that cimad's version (1)"} {
		if !strings.Contains(r.Hint, want) {
			t.Errorf("hint %q has no %q", r.Hint, want)
		}
	}
	forged := strings.Replace(text, `"runtime_log":[{"event":"`, `"runtime_log":[{"event":"AAAA`, 1)
	if r := appraiseT(t, []byte(forged), Options{}); r.Verdict != Malformed || !strings.Contains(r.Hint, "doesn't tell") {
		t.Errorf("hint %q", r.Hint)
	}
	if r := appraiseT(t, []byte(`{"profile":"x"}`), Options{}); strings.Contains(r.Hint, "v1") {
		t.Errorf("hint of other text: %q", r.Hint)
	}
}
