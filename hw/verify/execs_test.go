package verify

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// With executions in the policy each must have a digest, and none may have gone
// unmeasured, unless the policy allows it.
func TestPolicyOnExecs(t *testing.T) {
	known := rpc.Digest{1}
	good := `{"path":"/bin/one","sha384":"` + known.String() + `"}`
	const full = "runtime log is full"
	guarded, other := "sha256:"+strings.Repeat("aa", 32), "sha256:"+strings.Repeat("bb", 32)
	for name, c := range map[string]struct {
		own    []string // exec events
		public string   // missed event
		before bool     // the event is before the launch
		wrong  string   // "": the policy is met
		always bool     // also with allow_missed
	}{
		"all listed":            {own: []string{good, good}},
		"an intruder":           {own: []string{good, `{"path":"/intruder","sha384":"` + (rpc.Digest{2}).String() + `"}`}, wrong: "exec of /intruder is 02", always: true},
		"no digest":             {own: []string{good, `{"path":"/x"}`}, wrong: "exec of /x is missed"},
		"writable":              {own: []string{good, `{"path":"/x","writable":true}`}, wrong: "somebody could write"},
		"another hash":          {own: []string{good, `{"path":"/x","digest":"sha256:00"}`}, wrong: "exec of /x is sha256:00"},
		"listed by fs-verity":   {own: []string{`{"path":"/x","verity":"` + guarded + `","sha384":"` + (rpc.Digest{2}).String() + `"}`}},
		"large, and listed":     {own: []string{good, `{"path":"/x","verity":"` + guarded + `"}`}},
		"large, an intruder":    {own: []string{good, `{"path":"/x","verity":"` + other + `"}`}, wrong: "exec of /x is " + other, always: true},
		"listed by content":     {own: []string{`{"path":"/x","verity":"` + other + `","sha384":"` + known.String() + `"}`}},
		"its share is used up":  {own: []string{good, `{"missed":"` + full + `"}`}, wrong: "exec of a program is missed: " + full},
		"late, and listed":      {own: []string{`{"path":"/bin/one","late":true,"sha384":"` + known.String() + `"}`}},
		"never watched":         {wrong: "executions is not measured", always: true},
		"the log is full":       {own: []string{good}, public: `{"what":"exec","why":"` + full + `"}`, wrong: "missed: " + full},
		"it was before":         {own: []string{good}, public: `{"what":"exec","why":"` + full + `"}`, before: true, wrong: "missed: " + full},
		"events are refused":    {own: []string{good}, public: `{"what":"event","why":"` + full + `"}`, wrong: "missed: " + full},
		"a launch was missed":   {own: []string{good}, public: `{"what":"launch","why":"x"}`},
		"missed, and no object": {own: []string{good}, public: `{"what":1}`, wrong: "missed"},
		"exec that is no JSON":  {own: []string{`{"path":1}`}, wrong: "exec is", always: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sim.Config{})
			if c.before && c.public != "" {
				w.public(logs.OpMissed, c.public)
			}
			w.launch(idOne, "one", "/bin/one")
			if !c.before && c.public != "" {
				w.public(logs.OpMissed, c.public)
			}
			for _, e := range c.own {
				w.own(idOne, logs.OpExec, e)
			}
			bundle, opts := encode(t, w.evidence(idOne)), w.options()
			opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
			opts.Policy.Container.Execs = []rpc.Digest{known}
			for _, allow := range []bool{false, true} {
				opts.Policy.Container.AllowMissed, opts.Policy.Container.ExecVerity = allow, []string{guarded}
				r := appraiseT(t, bundle, opts)
				want := c.wrong
				if allow && !c.always {
					want = ""
				}
				step := r.Step(StepCallerValues)
				if (step.Outcome == Pass) != (want == "") || !strings.Contains(step.Detail, want) {
					t.Errorf("allow_missed %t: %s: %s, want %q", allow, step.Outcome, step.Detail, want)
				}
			}
		})
	}
}
