package verify

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
)

// TestPolicyDecides changes one thing in a policy that is met.
func TestPolicyDecides(t *testing.T) {
	w := twoContainers(t)
	w.own(idOne, logs.OpExec, `{"path":"/bin/one","sha384":"`+strings.Repeat("0a", 48)+`"}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	first := appraiseT(t, bundle, opts)
	fits := textOf(t, first)
	v := first.Registers
	other := strings.Repeat("0b", 48)
	required := "[[required]]\noperation = \"extend\"\nmatch = { domain = \"app\", operation = \"%\" }\n"
	forbidden := strings.Replace(required, "required", "forbidden", 1)
	add := func(text string) string { return fits + text }
	for name, c := range map[string]struct {
		text   string
		failed string // "" if the policy is still met
	}{
		"as made":                 {fits, ""},
		"MRTD":                    {replaced(t, fits, v.MRTD.String(), other), StepBootValues},
		"RTMR0":                   {replaced(t, fits, v.RTMR[0].String(), other), StepBootValues},
		"RTMR1":                   {replaced(t, fits, v.RTMR[1].String(), other), StepBootValues},
		"RTMR2":                   {replaced(t, fits, v.RTMR[2].String(), other), StepBootValues},
		"RTMR2, zero":             {replaced(t, fits, v.RTMR[2].String(), "zero"), StepBootValues},
		"line":                    {replaced(t, fits, "console=hvc0", "console=hvc0 quiet"), StepBootValues},
		"launch":                  {replaced(t, anyReference(t, fits), "launch = \"", "launch = \""+other+"\" #"), StepCallerValues},
		"any launch of the image": {anyLaunch(t, fits), ""},
		"image":                   {replaced(t, fits, imageDigestOf("one"), imageDigestOf("two")), StepCallerValues},
		"any image so launched":   {without(t, fits, "[image.", "digests = ", "image = \"one\""), ""},
		"source":                  {replaced(t, fits, "name = \"first seen 1\"", "name = \"x\"\nsource = \"user\""), StepCallerValues},
		"cgroup owner":            {replaced(t, fits, "name = \"first seen 1\"", "name = \"x\"\ncgroup_owner = 7"), StepCallerValues},
		"no exec":                 {replaced(t, fits, "execs = [\"", "execs = [] #"), StepCallerValues},
		"another exec":            {replaced(t, fits, "execs = [\"0a", "execs = [\"0b"), StepCallerValues},
		"execs not looked at":     {without(t, fits, "execs = ["), ""},
		"of another boot":         {replaced(t, fits, "name = \"first seen 1\"", "name = \"x\"\nboot = \"as first seen\"\nuntil = 2020-01-01"), StepCallerValues},
		"demanded, and not there": {replaced(t, fits, "name = \"first seen 1\"", "name = \"x\"\ndemand = [\"channel\"]"), StepNotProved},
		"required, own":           {add(strings.Replace(required, "%", "load", 1)), ""},
		"required, not there":     {add(strings.Replace(required, "%", "unload", 1)), StepEvents},
		"forbidden, not there":    {add(strings.Replace(forbidden, "%", "unload", 1)), ""},
		"forbidden, there":        {add(strings.Replace(forbidden, "%", "load", 1)), StepEvents},
		"forbidden, another's":    {add("[[forbidden]]\noperation = \"launch\"\nmatch.asked.arguments = [\"/bin/two\"]\n"), ""},
		"forbidden, by arguments": {add("[[forbidden]]\noperation = \"launch\"\nmatch.asked.arguments = [\"/bin/one\"]\n"), StepEvents},
		"any container":           {anyLaunch(t, replaced(t, without(t, fits, "[image.", "digests = "), "image = \"one\"", "any = true")), ""},
		"not waived":              {replaced(t, fits, `"collateral",`, ""), StepNotProved},
		"host input not waived":   {replaced(t, fits, `"host-input-unknown",`, ""), StepNotProved},
		"root not covered":        {replaced(t, fits, "root = \"verity\"", "root = \"not covered\"", `"root-not-covered",`, ""), StepNotProved},
		"attributes":              {add("[td]\nattributes = [\"sept-ve-disable\", \"pks\"]\n"), StepTD},
		"features":                {add("[td]\nxfam = \"7\"\n"), StepTD},
		"module":                  {add("[td]\nmrseam = \"" + other + "\"\n"), StepTD},
		"configuration":           {add("[td]\nmrconfigid = \"" + other + "\"\n"), StepTD},
		"run out":                 {replaced(t, fits, "name = \"as first seen\"", "name = \"x\"\nuntil = 2020-01-01"), StepPolicy},
		"not yet":                 {replaced(t, fits, "name = \"as first seen\"", "name = \"x\"\nfrom = 2120-01-01"), StepPolicy},
		"firmware revoked":        {add("[[revoked]]\ndigest = \"" + v.MRTD.String() + "\"\nwhy = \"x\"\n"), StepPolicy},
		"image revoked":           {add("[[revoked]]\ndigest = \"" + imageDigestOf("one") + "\"\nwhy = \"x\"\n"), StepPolicy},
		"program revoked":         {add("[[revoked]]\ndigest = \"" + strings.Repeat("0a", 48) + "\"\nwhy = \"x\"\n"), StepPolicy},
		"others revoked":          {add("[[revoked]]\ndigest = \"" + other + "\"\nwhy = \"x\"\n"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			opts.Policy = parsePolicy(t, c.text)
			r := appraiseT(t, bundle, opts)
			if c.failed == "" {
				expect(t, r, Trusted)
			} else {
				expect(t, r, NotTrusted, c.failed)
			}
		})
	}
	// What a policy leaves out is not allowed.
	for skipped, text := range map[string]string{
		StepBootValues:   "cima_policy = 2\n[host]\nany = true\n",
		StepCallerValues: bootText(first, ""),
	} {
		opts.Policy = parsePolicy(t, text)
		r := appraiseT(t, bundle, opts)
		if r.Verdict != NotTrusted || r.Step(skipped).Outcome != Skip {
			t.Errorf("%s: %s, %+v, reason %q", skipped, r.Verdict, r.Step(skipped), r.Reason)
		}
	}
}

// anyReference takes the references out.
func anyReference(t testing.TB, text string) string {
	t.Helper()
	before, _, _ := strings.Cut(text, "\n[[reference]]")
	return before
}

// A policy that nobody read knows nothing: some empty ones would accept any boot.
func TestPolicyMadeInCode(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	opts.Policy = &policy.Policy{}
	if r, err := Appraise(t.Context(), encode(t, w.evidence(idOne)), opts); err == nil {
		t.Errorf("%s", r.Verdict)
	}
	opts = Options{TrustRoots: opts.TrustRoots, Policy: opts.Policy}
	if r, err := AppraiseQuote(t.Context(), w.files([64]byte{}), opts); err == nil {
		t.Errorf("bare: %s", r.Verdict)
	}
}

func TestHostPolicy(t *testing.T) {
	w := twoContainers(t)
	bundle, opts := encode(t, w.evidence("")), w.options()
	made := textOf(t, appraiseT(t, bundle, opts))
	opts.Policy = parsePolicy(t, made)
	expect(t, appraiseT(t, bundle, opts), Trusted)
	for _, text := range []string{
		replaced(t, made, "a.service", "b.service"),
		// a container's rules don't apply to the host
		without(t, made, "[host]", "units = ") + "[[container]]\nname = \"x\"\nany = true\n",
	} {
		opts.Policy = parsePolicy(t, text)
		expect(t, appraiseT(t, bundle, opts), NotTrusted, StepCallerValues)
	}
	c := w.claims("")
	c.Host.Unit = ""
	bundle = encode(t, w.seal(c, w.key))
	for text, want := range map[string]Verdict{
		textOf(t, appraiseT(t, bundle, w.options())):               NotTrusted, // nobody has named it
		replaced(t, made, "units = [\"a.service\"]", "any = true"): Trusted,
	} {
		opts.Policy = parsePolicy(t, text)
		if r := appraiseT(t, bundle, opts); r.Verdict != want {
			t.Errorf("%s: %s", r.Verdict, r.Reason)
		}
	}
}

func TestLaunchFacts(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked":{"arguments":["/bin/one","-x"],"root_read_only":true,
		"capabilities":{"added":["CAP_CHOWN"],"dropped":["CAP_MKNOD"]},
		"mounts":[{"destination":"/data","type":"bind","source":"/srv/data","options":["ro"]},{"destination":"/scratch","type":"tmpfs"}]},
		"defaults":{"capabilities":{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_KILL"]},"umask":0}}`)
	w.own(idOne, logs.OpImage, `{"reference":"one:1","digest":"`+imageDigestOf("one")+`"}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	fits := anyLaunch(t, textOf(t, appraiseT(t, bundle, opts)))
	for text, fine := range map[string]bool{
		`asked.arguments = ["/bin/one","-x"]`:                                                             true,
		`asked.arguments = ["/bin/one",{prefix="-"}]`:                                                     true,
		`asked.arguments = ["/bin/one"]`:                                                                  false,
		`asked.arguments = ["-x","/bin/one"]`:                                                             false,
		`asked.arguments = {only=["-x","/bin/one","-y"]}`:                                                 true,
		`asked.arguments = []`:                                                                            false,
		`asked.capabilities.added = {only=["CAP_CHOWN","CAP_KILL"]}`:                                      true,
		`asked.capabilities = {added=["CAP_CHOWN"]}`:                                                      true,
		`asked.capabilities = {equal={added=["CAP_CHOWN"]}}`:                                              false, // not all of it
		`asked.capabilities.added = []`:                                                                   false,
		`defaults.capabilities.bounding={only=["CAP_CHOWN","CAP_KILL"]}`:                                  true,
		`asked.mounts=[{destination="/data",source="/srv/data",options=["ro"]},{destination="/scratch"}]`: true,
		`asked.mounts=[{destination="/data",source="/srv/other"},{destination="/scratch"}]`:               false,
		`asked.mounts=[{destination="/data",options=["rw"]},{destination="/scratch"}]`:                    false,
		`asked.mounts={only=[{destination="/data",source={prefix="/srv/"}},{type="tmpfs"}]}`:              true,
		`asked.mounts=[{destination="/data"}]`:                                                            false,
		`asked.mounts=[]`:                                                                                 false,
		`asked.root_read_only=true`:                                                                       true,
		`asked.root_read_only=false`:                                                                      false,
		`asked.terminal=false`:                                                                            true, // an empty value is left out
		`asked={devices=[],sysctls={},seccomp=""}`:                                                        true,
		`asked.terminal=true`:                                                                             false,
		`asked.hooks={absent=true}`:                                                                       true,
		`asked.mounts={absent=true}`:                                                                      false,
		`source="bundle"`:                                                                                 true,
		`source={any=["user","engine"]}`:                                                                  false,
		`defaults.umask=0`:                                                                                true,
		`defaults.umask=18`:                                                                               false,
		`defaults.umask={at_most=18}`:                                                                     true,
		`cgroup_owner=0`:                                                                                  true,
		`asked.devices=0`:                                                                                 false, // 0 isn't absent
		`image.reference={prefix="one:"}`:                                                                 true,
		`image.layers=["sha256:aa"]`:                                                                      false,
		`claims.container.runtime="docker"`:                                                               true,
		`claims.container.assurance.pidfd=false`:                                                          false,
	} {
		opts.Policy = parsePolicy(t, replaced(t, fits, "name = \"first seen 1\"", "name = \"x\"\nmatch."+text))
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
	for more, failed := range map[string]string{
		"": "", "[container.match.asked]\nterminal = false\n": StepCallerValues,
		"[[forbidden]]\noperation = \"launch\"\nmatch.asked.root_read_only = false\n": StepEvents,
		"[[required]]\noperation = \"launch\"\nmatch.asked.all_devices = false\n":     StepEvents,
		"[[forbidden]]\noperation = \"image\"\nmatch.reference = \"r:2\"\n":           "",
	} {
		before, after, _ := strings.Cut(fits, "\n# Classes of power")
		opts.Policy = parsePolicy(t, before+"\n"+more+"# "+after)
		if r := appraiseT(t, encode(t, w.evidence(idOne)), opts); failed == "" {
			expect(t, r, Trusted)
		} else {
			expect(t, r, NotTrusted, failed)
		}
	}
}
