package verify

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// TestPolicyDecides changes one thing in a policy that fits.
func TestPolicyDecides(t *testing.T) {
	w := twoContainers(t)
	w.own(idOne, logs.OpExec, `{"path":"/bin/one","sha384":"`+strings.Repeat("0a", 48)+`"}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	fits := appraiseT(t, bundle, opts)
	for name, c := range map[string]struct {
		change func(p *policy.Policy)
		failed string // "" where it still fits
	}{
		"as made":                 {func(p *policy.Policy) {}, ""},
		"MRTD":                    {func(p *policy.Policy) { p.Boot[0].MRTD = &rpc.Digest{} }, StepBootValues},
		"RTMR0":                   {func(p *policy.Policy) { p.Boot[0].RTMR0 = &rpc.Digest{} }, StepBootValues},
		"RTMR1":                   {func(p *policy.Policy) { p.Boot[0].RTMR1 = &rpc.Digest{} }, StepBootValues},
		"RTMR2":                   {func(p *policy.Policy) { p.Boot[0].RTMR2 = &rpc.Digest{} }, StepBootValues},
		"another boot before it":  {func(p *policy.Policy) { p.Boot = append([]policy.BootValues{zeroBoot}, p.Boot...) }, ""},
		"another boot only":       {func(p *policy.Policy) { p.Boot = []policy.BootValues{zeroBoot} }, StepBootValues},
		"launch":                  {func(p *policy.Policy) { p.Container.LaunchDigests[0][0] ^= 1 }, StepCallerValues},
		"any launch of the image": {func(p *policy.Policy) { p.Container.LaunchDigests = nil }, ""},
		"image":                   {func(p *policy.Policy) { p.Container.ImageDigests[0] = imageDigestOf("two") }, StepCallerValues},
		"any image so launched":   {func(p *policy.Policy) { p.Container.ImageDigests = nil }, ""},
		"start":                   {func(p *policy.Policy) { p.Container.Start = []string{"observed"} }, StepCallerValues},
		"source":                  {func(p *policy.Policy) { p.Container.Source = []string{"user"} }, StepCallerValues},
		"cgroup owner":            {func(p *policy.Policy) { p.Container.CgroupOwner = []uint32{7} }, StepCallerValues},
		"no exec":                 {func(p *policy.Policy) { p.Container.Execs = []rpc.Digest{} }, StepCallerValues},
		"no exec by fs-verity":    {func(p *policy.Policy) { p.Container.Execs, p.Container.ExecVerity = nil, []string{} }, StepCallerValues},
		"execs not looked at":     {func(p *policy.Policy) { p.Container.Execs = nil }, ""},
		"anchor":                  {func(p *policy.Policy) { p.Agent.Anchors = []string{"report-data"} }, StepEvents},
		"required, there":         {func(p *policy.Policy) { p.Required = seal }, ""},
		"required, own":           {func(p *policy.Policy) { p.Required = extendOf("load") }, ""},
		"required, not there":     {func(p *policy.Policy) { p.Required = extendOf("unload") }, StepEvents},
		"forbidden, not there":    {func(p *policy.Policy) { p.Forbidden = extendOf("unload") }, ""},
		"forbidden, there":        {func(p *policy.Policy) { p.Forbidden = seal }, StepEvents},
		"forbidden, another's": {func(p *policy.Policy) {
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"arguments": []any{"/bin/two"}}}}
		}, ""},
		"forbidden, by arguments": {func(p *policy.Policy) {
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"arguments": []any{"/bin/one"}}}}
		}, StepEvents},
		"forbidden, for it is left out": {func(p *policy.Policy) {
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"no_new_privileges": false}}}
		}, StepEvents},
		"forbidden, by a number": {func(p *policy.Policy) {
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"cgroup_owner": int64(0)}}}
		}, StepEvents},
		"any container, and no more": {func(p *policy.Policy) {
			p.Container.Any, p.Container.LaunchDigests, p.Container.ImageDigests = true, nil, nil
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			opts.Policy = policyOf(t, fits)
			c.change(opts.Policy)
			r := appraiseT(t, bundle, opts)
			if c.failed == "" {
				expect(t, r, Trusted)
			} else {
				expect(t, r, NotTrusted, c.failed)
			}
		})
	}
	// What a policy leaves out is not allowed.
	for name, c := range map[string]struct {
		remove  func(p *policy.Policy)
		skipped string
	}{
		"no boot":      {func(p *policy.Policy) { p.Boot = nil }, StepBootValues},
		"no container": {func(p *policy.Policy) { p.Container.LaunchDigests, p.Container.ImageDigests = nil, nil }, StepCallerValues},
	} {
		opts.Policy = policyOf(t, fits)
		c.remove(opts.Policy)
		r := appraiseT(t, bundle, opts)
		expect(t, r, NotTrusted)
		if r.Step(c.skipped).Outcome != Skip || !strings.HasPrefix(r.Reason, c.skipped) {
			t.Errorf("%s: %+v, reason %q", name, r.Step(c.skipped), r.Reason)
		}
	}
}

var (
	zeroBoot = policy.BootValues{MRTD: &rpc.Digest{}, RTMR0: &rpc.Digest{}, RTMR1: &rpc.Digest{}, RTMR2: &rpc.Digest{}}
	seal     = []policy.EventPattern{{Operation: "seal"}}
)

func extendOf(operation string) []policy.EventPattern {
	return []policy.EventPattern{{Operation: "extend", Match: map[string]any{"operation": operation, "domain": "app"}}}
}

func TestPower(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.public(logs.OpPower, `{"classes":["privileged","devices"]}`)
	w.launch(idOne, "one", "/bin/one")
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	made := policyOf(t, appraiseT(t, bundle, opts))
	for _, c := range []struct {
		allow []string
		fits  bool
	}{{nil, false}, {[]string{"devices"}, false}, {[]string{"devices", "privileged", "x"}, true}, {made.Power.Allow, true}} {
		opts.Policy = made
		opts.Policy.Power.Allow = c.allow
		if r := appraiseT(t, bundle, opts); c.fits {
			expect(t, r, Trusted)
		} else {
			expect(t, r, NotTrusted, StepPower)
		}
	}
	// One whose start was missed could have had any.
	for what, says := range map[string]bool{"exec": false, "launch": true} {
		w := newWorld(t, sim.Config{})
		w.public(logs.OpMissed, `{"count":1,"what":"`+what+`","why":"x"}`)
		w.launch(idOne, "one", "/bin/one")
		r := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
		if got := strings.Contains(strings.Join(r.NotProved, "\n"), "starts were missed"); got != says {
			t.Errorf("%s missed: not proved are %q", what, r.NotProved)
		}
	}
	// Classes that can't be read are allowed by nothing.
	for _, body := range []string{`{}`, `{"classes":[]}`, `{"classes":"privileged"}`, `{"why":"?"}`} {
		w := newWorld(t, sim.Config{})
		w.public(logs.OpPower, body)
		w.launch(idOne, "one", "/bin/one")
		bundle, opts := encode(t, w.evidence(idOne)), w.options()
		opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
		opts.Policy.Power.Allow = []string{"privileged", ""}
		expect(t, appraiseT(t, bundle, opts), NotTrusted, StepPower)
	}
}

func TestHostPolicy(t *testing.T) {
	w := twoContainers(t)
	bundle, opts := encode(t, w.evidence("")), w.options()
	made := policyOf(t, appraiseT(t, bundle, opts))
	opts.Policy = made
	expect(t, appraiseT(t, bundle, opts), Trusted)
	made.Host.Units = []string{"b.service"}
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepCallerValues)
	made.Host.Units, made.Container.Any = nil, true // a container's rules are no host's
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepCallerValues)

	c := w.claims("")
	c.Host.Unit = ""
	bundle = encode(t, w.seal(c, w.key))
	made.Host.Units = []string{""}
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepCallerValues)
	opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
	expect(t, appraiseT(t, bundle, opts), Trusted)
}

// TestInitPolicyQuotes: what others chose can't become a line of the policy.
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
	w.own("a\nany = true", logs.OpLaunch, `{"source":"bundle\nany = true","cgroup_owner":0}`)
	w.own("a\nany = true", logs.OpImage, `{"reference":"r\n[host]\nany = true","digest":"sha256:x\ny"}`)
	r := appraiseT(t, encode(t, w.evidence("a\nany = true")), opts)
	expect(t, r, NotTrusted)
	if text, err := InitPolicy(r); err == nil { // no such source, so no policy
		t.Errorf("made:\n%s", text)
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

// TestLastCounts: a daemon or a configuration that was required, and is replaced, is
// not in force.
func TestLastCounts(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.public(logs.OpPolicy, `{"sha384":"aa"}`)
	w.launch(idOne, "one", "/bin/one")
	fits := policyOf(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
	of := func(operation, member, value string) policy.EventPattern {
		return policy.EventPattern{Operation: operation, Match: map[string]any{member: value}}
	}
	fits.Required = []policy.EventPattern{of("start", "version", "1"), of("policy", "sha384", "aa")}
	opts := w.options()
	opts.Policy = fits
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	w.public(logs.OpPolicy, `{"sha384":"bb"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	w.public(logs.OpPolicy, `{"sha384":"aa"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	fits.Forbidden = []policy.EventPattern{of("policy", "sha384", "bb")}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	fits.Forbidden = nil
	key := base64.StdEncoding.EncodeToString(publicOf(w.key))
	w.public(logs.OpStart, `{"version":"0","agent_key":"`+key+`","boot_id":"x"}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
}

// TestPolicyMadeInCode: reference values that a program fills in are looked at as
// those of a file are. Some that say nothing would fit any boot.
func TestPolicyMadeInCode(t *testing.T) {
	w := twoContainers(t)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	fits := policyOf(t, appraiseT(t, bundle, opts))
	opts.Policy = fits
	expect(t, appraiseT(t, bundle, opts), Trusted)
	for name, boot := range map[string]policy.BootValues{
		"nothing":   {},
		"a name":    {Name: "appliance"},
		"MRTD":      {MRTD: fits.Boot[0].MRTD},
		"no RTMR2":  {MRTD: fits.Boot[0].MRTD, RTMR0: fits.Boot[0].RTMR0, RTMR1: fits.Boot[0].RTMR1},
		"any RTMR2": {MRTD: fits.Boot[0].MRTD, RTMR0: fits.Boot[0].RTMR0, RTMR1: fits.Boot[0].RTMR1, Events: []policy.BootPattern{{RTMR: 2}}},
	} {
		made := *fits
		made.Boot = []policy.BootValues{boot}
		opts.Policy = &made
		if r, err := Appraise(t.Context(), bundle, opts); err == nil {
			t.Errorf("%s: %s", name, r.Verdict)
		}
		opts := Options{TrustRoots: opts.TrustRoots, Policy: &made}
		if r, err := AppraiseQuote(t.Context(), w.files([64]byte{}), opts); err == nil {
			t.Errorf("%s, bare: %s", name, r.Verdict)
		}
	}
}
