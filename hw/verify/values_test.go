package verify

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// anyLaunch takes out which launches a policy allows.
func anyLaunch(p *policy.Policy) {
	p.Container.LaunchDigests, p.Container.References = nil, nil
}

// TestPolicyDecides changes one thing in a policy that is met.
func TestPolicyDecides(t *testing.T) {
	w := twoContainers(t)
	w.own(idOne, logs.OpExec, `{"path":"/bin/one","sha384":"`+strings.Repeat("0a", 48)+`"}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	fits := appraiseT(t, bundle, opts)
	for name, c := range map[string]struct {
		change func(p *policy.Policy)
		failed string // "" if the policy is still met
	}{
		"as made":                {func(p *policy.Policy) {}, ""},
		"MRTD":                   {func(p *policy.Policy) { p.Boot[0].MRTD = &rpc.Digest{} }, StepBootValues},
		"RTMR0":                  {func(p *policy.Policy) { p.Boot[0].RTMR0 = &rpc.Digest{} }, StepBootValues},
		"RTMR1":                  {func(p *policy.Policy) { p.Boot[0].RTMR1 = &rpc.Digest{} }, StepBootValues},
		"RTMR2":                  {func(p *policy.Policy) { p.Boot[0].RTMR2 = &rpc.Digest{} }, StepBootValues},
		"another boot before it": {func(p *policy.Policy) { p.Boot = append([]policy.BootValues{zeroBoot}, p.Boot...) }, ""},
		"another boot only":      {func(p *policy.Policy) { p.Boot = []policy.BootValues{zeroBoot} }, StepBootValues},
		"launch":                 {func(p *policy.Policy) { p.Container.LaunchDigests[0][0] ^= 1; p.Container.References = nil }, StepCallerValues},
		"defaults":               {func(p *policy.Policy) { p.Container.DefaultsDigests = []rpc.Digest{{1}} }, StepCallerValues},
		"defaults, as they are": {func(p *policy.Policy) {
			p.Container.DefaultsDigests = []rpc.Digest{{1}, fits.Claims.Container.DefaultsDigest}
		}, ""},
		"any launch of the image": {func(p *policy.Policy) { anyLaunch(p) }, ""},
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
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"asked": map[string]any{"arguments": []any{"/bin/two"}}}}}
		}, ""},
		"forbidden, by arguments": {func(p *policy.Policy) {
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"asked": map[string]any{"arguments": []any{"/bin/one"}}}}}
		}, StepEvents},
		"forbidden, for it is left out": {func(p *policy.Policy) {
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"asked": map[string]any{"no_new_privileges": false}}}}
		}, StepEvents},
		"forbidden, by a number": {func(p *policy.Policy) {
			p.Forbidden = []policy.EventPattern{{Operation: "launch", Match: map[string]any{"cgroup_owner": int64(0)}}}
		}, StepEvents},
		"any container, and no more": {func(p *policy.Policy) {
			anyLaunch(p)
			p.Container.Any, p.Container.ImageDigests = true, nil
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
		"no container": {func(p *policy.Policy) { anyLaunch(p); p.Container.ImageDigests = nil }, StepCallerValues},
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

func TestHostPolicy(t *testing.T) {
	w := twoContainers(t)
	bundle, opts := encode(t, w.evidence("")), w.options()
	made := policyOf(t, appraiseT(t, bundle, opts))
	opts.Policy = made
	expect(t, appraiseT(t, bundle, opts), Trusted)
	made.Host.Units = []string{"b.service"}
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepCallerValues)
	made.Host.Units, made.Container.Any = nil, true // a container's rules don't apply to the host
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepCallerValues)

	c := w.claims("")
	c.Host.Unit = ""
	bundle = encode(t, w.seal(c, w.key))
	made.Host.Units = []string{""}
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepCallerValues)
	opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
	expect(t, appraiseT(t, bundle, opts), Trusted)
}

// TestPolicyMadeInCode: reference values that a program fills in are checked
// like those of a file. Some empty ones would accept any boot.
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

func TestLaunchFacts(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked":{"arguments":["/bin/one","-x"],"root_read_only":true,
		"capabilities":{"added":["CAP_CHOWN"],"dropped":["CAP_MKNOD"]},
		"mounts":[{"destination":"/data","type":"bind","source":"/srv/data","options":["ro"]},{"destination":"/scratch","type":"tmpfs"}]},
		"defaults":{"capabilities":{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_KILL"]},"umask":0}}`)
	w.own(idOne, logs.OpImage, `{"reference":"r:1","digest":"`+imageDigestOf("one")+`"}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	fits := appraiseT(t, bundle, opts)
	for text, fine := range map[string]bool{
		`arguments=["/bin/one","-x"]`:           true,
		`arguments=["/bin/one"]`:                false,
		`arguments=["-x","/bin/one"]`:           false,
		`arguments=[]`:                          false,
		`capabilities=["CAP_KILL","CAP_CHOWN"]`: true,
		`capabilities=["CAP_KILL"]`:             false,
		`capabilities=[]`:                       false,
		`mounts=[{destination="/data",source="/srv/data",options=["ro"]},{destination="/scratch"}]`: true,
		`mounts=[{destination="/data",source="/srv/other"},{destination="/scratch"}]`:               false,
		`mounts=[{destination="/data",options=["rw"]},{destination="/scratch"}]`:                    false,
		`mounts=[{destination="/data"}]`:                      false,
		`mounts=[]`:                                           false,
		`match={asked={root_read_only=true}}`:                 true,
		`match={asked={root_read_only=false}}`:                false,
		`match={asked={terminal=false}}`:                      true, // an empty value is left out
		`match={asked={devices=[],sysctls={},seccomp=""}}`:    true,
		`match={asked={terminal=true}}`:                       false,
		`match={asked={root_read_only=true},source="bundle"}`: true,
		`match={asked={root_read_only=true},source="user"}`:   false,
		`match={defaults={umask=0}}`:                          true,
		`match={defaults={umask=18}}`:                         false,
		`match={cgroup_owner=0}`:                              true,
		`match={asked={devices=0}}`:                           false, // 0 isn't absent
		`match={asked={capabilities={added=["CAP_CHOWN"]}}}`:  false, // not all of it
	} {
		p := policyOf(t, fits)
		anyLaunch(p)
		with, err := policy.Parse([]byte("[container.launch]\n" + text))
		if err != nil {
			t.Fatal(err)
		}
		p.Container.Launch = with.Container.Launch
		opts.Policy = p
		r := appraiseT(t, bundle, opts)
		t.Run(text, func(t *testing.T) {
			if fine {
				expect(t, r, Trusted)
			} else {
				expect(t, r, NotTrusted, StepCallerValues)
			}
		})
	}
	// A launch that is too large for an event can't be compared with a policy.
	w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked_sha384":"`+strings.Repeat("ab", 48)+`","defaults_sha384":"`+strings.Repeat("cd", 48)+`"}`)
	w.own(idOne, logs.OpImage, `{"reference":"r:1","digest":"`+imageDigestOf("one")+`"}`)
	opts.Policy = policyOf(t, fits)
	anyLaunch(opts.Policy)
	opts.Policy.Container.Launch = &policy.Launch{Capabilities: []string{}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepCallerValues)
	opts.Policy.Container.Launch = nil
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
	opts.Policy.Forbidden = []policy.EventPattern{{Operation: logs.OpLaunch, Match: map[string]any{"asked": map[string]any{"root_read_only": false}}}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	opts.Policy.Forbidden, opts.Policy.Required = nil, []policy.EventPattern{{Operation: logs.OpLaunch, Match: map[string]any{"asked": map[string]any{"all_devices": false}}}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), NotTrusted, StepEvents)
	opts.Policy.Required = nil
	opts.Policy.Forbidden = []policy.EventPattern{{Operation: logs.OpImage, Match: map[string]any{"reference": "r:2"}}}
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), opts), Trusted)
}
