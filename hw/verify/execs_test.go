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
		always bool     // also where executions is waived
	}{
		"all listed":            {own: []string{good, good}},
		"an intruder":           {own: []string{good, `{"path":"/intruder","sha384":"` + (rpc.Digest{2}).String() + `"}`}, wrong: "it executed 02", always: true},
		"no digest":             {own: []string{good, `{"path":"/x"}`}, wrong: "missed"},
		"writable":              {own: []string{good, `{"path":"/x","writable":true}`}, wrong: "somebody could write"},
		"another hash":          {own: []string{good, `{"path":"/x","digest":"sha256:00"}`}, wrong: "sha256:00"},
		"listed by fs-verity":   {own: []string{`{"path":"/x","verity":"` + guarded + `","sha384":"` + (rpc.Digest{2}).String() + `"}`}},
		"large, and listed":     {own: []string{good, `{"path":"/x","verity":"` + guarded + `"}`}},
		"large, an intruder":    {own: []string{good, `{"path":"/x","verity":"` + other + `"}`}, wrong: "it executed " + other[:24], always: true},
		"listed by content":     {own: []string{`{"path":"/x","verity":"` + other + `","sha384":"` + known.String() + `"}`}},
		"its share is used up":  {own: []string{good, `{"missed":"` + full + `"}`}, wrong: "missed: " + full},
		"late, and listed":      {own: []string{`{"path":"/bin/one","late":true,"sha384":"` + known.String() + `"}`}},
		"never watched":         {wrong: "not measured"},
		"the log is full":       {own: []string{good}, public: `{"what":"exec","why":"` + full + `"}`, wrong: "missed: " + full},
		"it was before":         {own: []string{good}, public: `{"what":"exec","why":"` + full + `"}`, before: true, wrong: "missed: " + full},
		"events are refused":    {own: []string{good}, public: `{"what":"event","why":"` + full + `"}`, wrong: "missed: " + full},
		"a launch was missed":   {own: []string{good}, public: `{"what":"launch","why":"x"}`},
		"missed, and no object": {own: []string{good}, public: `{"what":1}`, wrong: "missed"},
		"exec that is no JSON":  {own: []string{`{"path":1}`}, wrong: "can't be read"},
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
			text := anyLaunch(t, textOf(t, appraiseT(t, bundle, opts)))
			if len(c.own) > 0 && strings.Contains(text, "execs = ") {
				text = without(t, text, "execs = ")
			}
			for _, waived := range []string{"", "waive = \"executions\"\n"} {
				opts.Policy = parsePolicy(t, strings.Replace(replaced(t, text, "name = \"first seen 1\"",
					"name = \"x\"\n"+waived+"execs = [\""+known.String()+"\", \""+guarded+"\"]"), "[[forbidden]]", "[[forbidden]]\nmatch.why = \"y\"", 1))
				r := appraiseT(t, bundle, opts)
				want, step := c.wrong, r.Step(StepCallerValues)
				if !c.always {
					step = r.Step(StepNotProved)
				}
				if waived != "" && !c.always {
					want = ""
				}
				if failed := step.Outcome == Fail; failed != (want != "") {
					t.Errorf("%q: %s: %s, want %q", waived, step.Outcome, step.Detail, want)
				}
				if said := step.Detail + texts(r.NotProved); !strings.Contains(said, want) {
					t.Errorf("%q: %s, want %q", waived, said, want)
				}
			}
		})
	}
}
