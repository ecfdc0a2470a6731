package verify

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// shown are the comparisons of the step caller-values that differ, one a line.
func shown(r *Result) (list []string) {
	for _, c := range r.Step(StepCallerValues).Compared {
		if c.Want != c.Got && !strings.HasSuffix(c.What, " digest") {
			list = append(list, c.What+": "+c.Want+" / "+c.Got)
		}
	}
	return list
}

// A launch that the policy doesn't know is explained by the facts that differ from the
// nearest one that it knows.
func TestRefusalIsExplained(t *testing.T) {
	w := newWorld(t, sim.Config{})
	known := `{"arguments":["/bin/one"],"mounts":[{"destination":"/data","source":"/srv/data","type":"bind"}]}`
	w.asked(idOne, "one", known)
	w.asked(idTwo, "two", `{"arguments":["/bin/two"],"user":{"gid":7,"uid":7}}`)
	opts := w.options()
	both, _, err := InitPolicy([]*Result{appraiseT(t, encode(t, w.evidence(idTwo)), opts), appraiseT(t, encode(t, w.evidence(idOne)), opts)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	opts.Policy = parsePolicy(t, string(both))

	const id = "3333"
	w.asked(id, "one", strings.Replace(known, "/srv/data", "/etc", 1))
	r := appraiseT(t, encode(t, w.evidence(id)), opts)
	expect(t, r, NotTrusted, StepCallerValues, StepNotProved)
	if got := shown(r); !slices.Equal(got, []string{`asked.mounts[/data].source: "/srv/data" / "/etc"`}) {
		t.Errorf("shown %+v", got)
	}
	if !strings.Contains(r.Reason, "asked.mounts[/data].source") {
		t.Errorf("reason %+v", r.Reason)
	}
	var table strings.Builder
	r.WriteTable(&table)
	if !strings.Contains(table.String(), `asked.mounts[/data].source: want "/srv/data"`) {
		t.Errorf("%s", &table)
	}

	// Without references the facts of the launch are shown.
	opts.Policy = parsePolicy(t, anyReference(t, string(both)))
	r = appraiseT(t, encode(t, w.evidence(id)), opts)
	expect(t, r, NotTrusted, StepCallerValues, StepNotProved)
	if got := shown(r); !slices.Contains(got, `asked.arguments: not known: the policy has no [[reference]] / ["/bin/one"]`) || len(got) != 5 {
		t.Errorf("shown %+v", got)
	}
}

// A container that an alternative doesn't fit by its match is explained by the facts of that
// match, each with what was wanted; of launch digests, which it doesn't name, nothing is said.
func TestMatchIsExplained(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.asked(idOne, "one", `{"arguments":["/bin/one"],"environment":[{"name":"LONG","value":"`+strings.Repeat("v", 200)+`"}],"user":{"gid":7,"uid":7}}`)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	text := anyReference(t, textOf(t, appraiseT(t, bundle, opts)))
	before, rest, _ := strings.Cut(text, "[[container]]")
	_, after, _ := strings.Cut(rest, "\n[")
	with := func(match string) *Result {
		opts.Policy = parsePolicy(t, before+"[[container]]\nname = \"x\"\nimage = [\"one\"]\n"+match+"\n["+after)
		return appraiseT(t, bundle, opts)
	}
	r := with(`match.asked.arguments = [{ prefix = "/bin" }]
match.asked.user.uid = { at_most = 9 }
match.asked.mounts = [{ destination = "/run/cima" }]
match.asked.environment.LONG = "` + strings.Repeat("v", 200) + `w"
match.image.digest = "sha256:aa"`)
	expect(t, r, NotTrusted, StepCallerValues)
	var got []string
	for _, c := range r.Step(StepCallerValues).Compared {
		got = append(got, c.What+": "+c.Want+" / "+c.Got)
	}
	long := `"` + strings.Repeat("v", 99) + "…"
	if want := []string{
		`match.asked.environment.LONG: ` + long + ` / {"value":` + long[:91] + `…`,
		`match.asked.mounts: [{destination}] / nothing`,
		`match.image.digest: "sha256:aa" / "` + imageDigestOf("one") + `"`,
		`match.asked.arguments: ["/bin/one"] / ["/bin/one"]`, // it is met
		`match.asked.user.uid: 7 / 7`,
	}; !slices.Equal(got, want) {
		t.Errorf("shown\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// What differs is shown even where the beginnings are equal, and not all of many facts.
	var many strings.Builder
	for i := range 30 {
		fmt.Fprintf(&many, "match.asked.environment.V%02d = \"x\"\n", i)
	}
	fmt.Fprintf(&many, "match.asked.environment.LONG.value = %q\n", strings.Repeat("v", 200)+"w")
	got = shown(with(many.String()))
	if len(got) != 21 || got[20] != "more facts that differ: 0 / 11" || !strings.HasPrefix(got[0], "match.asked.environment.LONG.value: another than ") {
		t.Errorf("%d are shown: %q", len(got), got)
	}
}

// What an explanation shows is bounded, however much the launch asks for.
func TestExplanationIsBounded(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.launch(idOne, "one", "/bin/one")
	opts := w.options()
	text := textOf(t, appraiseT(t, encode(t, w.evidence(idOne)), opts))
	large := `{"arguments":["` + strings.Repeat("y", 50000) + `"],"environment":[`
	for i := range 700 {
		large += fmt.Sprintf(`{"name":"%s%d"},`, strings.Repeat("é", 130), i)
	}
	w.asked(idTwo, "one", large+`{"name":"A"}]}`)
	text = replaced(t, text, `"asked": {`, `"asked": {"environment": [{"name":"B"}],`)
	_, launch, _ := strings.Cut(text, "launch = '''")
	launch, _, _ = strings.Cut(launch, "'''")
	text = replaced(t, text, w.claims(idOne).Container.LaunchDigest.String(), referenceDigest(t, launch).String())
	opts.Policy = parsePolicy(t, text)
	r := appraiseT(t, encode(t, w.evidence(idTwo)), opts)
	expect(t, r, NotTrusted, StepCallerValues)
	if got := shown(r); len(got) != 21 || got[20] != "more facts that differ: 0 / 683" {
		t.Errorf("%d facts are shown: %.200q", len(got), got)
	}
	form, err := json.Marshal(r.Step(StepCallerValues))
	if err != nil || len(form) > 20<<10 {
		t.Errorf("%d bytes, %v", len(form), err)
	}
}

// referenceDigest is the launch digest of a reference, by the world's arithmetic.
func referenceDigest(t *testing.T, launch string) rpc.Digest {
	t.Helper()
	form, err := canonical.Marshal(jsontext.Value(launch))
	if err != nil {
		t.Fatal(err)
	}
	whole, _ := (&world{t: t}).digests(form, "")
	return whole
}

// A reference may lie in a file, as cimactl predict prints it. It must explain a launch
// digest of the policy's.
func TestReferences(t *testing.T) {
	w := newWorld(t, sim.Config{})
	w.launch(idOne, "one", "/bin/one")
	claims := w.claims(idOne).Container
	launch, image := string(w.log[2].Body()), string(w.log[3].Body())
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("good.json", `{"launch_digest":"…","launch":`+launch+`,"image":`+image+`}`)
	without, _, _ := strings.Cut(launch, `,"defaults"`)
	write("predicted.json", `{"launch":`+without+`,"image_config":"`+imageDigestOf("one")+`","source":"bundle"},"image":`+image+`,"unknown":[]}`)
	write("half.json", `{"launch":`+launch+`}`)
	write("other.json", `{"launch":`+strings.Replace(launch, "/bin/one", "/bin/two", 1)+`,"image":`+image+`}`)
	write("earlier.json", `{"launch":`+earlierLaunch+`,"image":`+image+`}`)
	write("large.json", `{"launch":`+strings.Repeat(" ", 1<<20)+launch+`,"image":`+image+`}`)
	for text, want := range map[string]string{
		`file = "good.json"`:                                         "",
		`file = "` + dir + `/good.json"`:                             "",
		`file = "predicted.json"`:                                    "",
		`file = "none.json"`:                                         "must be a file",
		`file = "half.json"`:                                         "must be an object with launch and image",
		`file = "other.json"`:                                        "which a [[container]] must have as launch",
		`file = "earlier.json"`:                                      "must be of evidence profile v2",
		`file = "large.json"`:                                        "at most",
		`file = "good.json"` + "\nlaunch = '{}'":                     "and not both",
		"launch = '''" + launch + "'''":                              "must have launch and image",
		"launch = '{}'\nimage = '{}'":                                "source must be one of",
		"launch = '{}{}'\nimage = '{}'":                              "launch",
		"launch = '''" + launch + "'''\nimage='x'":                   "image",
		"launch = '''" + launch + "'''\nimage = '''" + image + "'''": "",
	} {
		path := write("policy.toml", "cima_policy = 2\n[[container]]\nname = \"x\"\nlaunch = \""+claims.LaunchDigest.String()+"\"\n[[reference]]\n"+text+"\n")
		_, err := policy.Load(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %+v", text, err, want)
		}
	}
}

// The variables that were asked for were found by the image's config: another image's
// would make others of them.
func TestImageConfig(t *testing.T) {
	w := newWorld(t, sim.Config{})
	launch := func(config string) *Result {
		w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{}`+config+`}`)
		w.image(idOne, "one")
		return appraiseT(t, encode(t, w.evidence(idOne)), w.options())
	}
	expect(t, launch(`,"image_config":"`+imageDigestOf("one")+`"`), NotTrusted)
	expect(t, launch(``), NotTrusted)
	r := launch(`,"image_config":"` + imageDigestOf("two") + `"`)
	expect(t, r, NotAuthentic, StepCaller)
	if !strings.Contains(r.Reason, "another image's config") {
		t.Errorf("reason %+v", r.Reason)
	}
}

// Closed world: what a verifier doesn't know in a launch makes it no evidence.
func TestUnknownInALaunch(t *testing.T) {
	for _, body := range []string{
		`{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{},"more":1}`,
		`{"source":"bundle","cgroup_owner":0,"asked":{"more":1},"defaults":{}}`,
		`{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{"more":1}}`,
		`{"source":"bundle","cgroup_owner":0,"asked":{}}`,
		`{"source":"bundle","cgroup_owner":0,"arguments":["a"]}`,
	} {
		w := newWorld(t, sim.Config{})
		w.own(idOne, logs.OpLaunch, body)
		w.image(idOne, "one")
		expect(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()), NotAuthentic, StepCaller)
	}
	w := newWorld(t, sim.Config{})
	w.own(idOne, logs.OpLaunch, `{"source":"bundle","cgroup_owner":0,"asked":{},"defaults":{}}`)
	w.own(idOne, logs.OpImage, `{"reference":"a","digest":"b","more":1}`)
	expect(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()), NotAuthentic, StepCaller)
}

// A mount that leads elsewhere than its source says is told, and no policy that names the
// source takes it unless it names the place too.
func TestMountsElsewhere(t *testing.T) {
	const mount = `{"destination":"/data","source":"/srv/data","type":"bind"}`
	for _, c := range []struct {
		mounted, policy string
		fine            bool
	}{
		{``, `{destination="/data",source="/srv/data"}`, true},
		{``, `{destination="/data",source="/srv/data",place="/etc"}`, false},
		{`{"mounts":[{"destination":"/data","place":"/etc"}]}`, `{destination="/data",source="/srv/data"}`, false},
		{`{"mounts":[{"destination":"/data","place":"/etc"}]}`, `{destination="/data",place="/etc"}`, true},
		{`{"mounts":[{"destination":"/data","place":"/etc"}]}`, `{destination="/data",place="/usr"}`, false},
		{`{"mounts":[{"destination":"/data","place":"/etc"}]}`, `{destination="/data",source="/etc"}`, false},
		{`{"mounts":[{"destination":"/data","place":"/etc"}]}`, `{destination="/data"}`, true},
		{`{"mounts":[{"destination":"/other","place":"/etc"}]}`, `{destination="/data",source="/srv/data"}`, true},
		{`{"mounts":[{"destination":"/data","place":"/etc"},{"destination":"/data","place":"/usr"}]}`, `{destination="/data",source="/srv/data",place="/usr"}`, false},
		{`{"mounts_sha384":"` + strings.Repeat("0a", 48) + `"}`, `{destination="/data",source="/srv/data"}`, false},
	} {
		w := newWorld(t, sim.Config{})
		w.asked(idOne, "one", `{"mounts":[`+mount+`]}`)
		if c.mounted != "" {
			w.own(idOne, logs.OpMounted, c.mounted)
		}
		bundle, opts := encode(t, w.evidence(idOne)), w.options()
		first := appraiseT(t, bundle, opts)
		if told := strings.Contains(texts(first.NotProved), "its mounts are of the places"); told != (c.mounted != "") {
			t.Errorf("%s: not proved %+v", c.mounted, first.NotProved)
		}
		opts.Policy = parsePolicy(t, replaced(t, textOf(t, first), "name = \"first seen 1\"", "name = \"x\"\nmatch.asked.mounts = ["+c.policy+"]"))
		if r := appraiseT(t, bundle, opts); (r.Verdict == Trusted) != c.fine {
			t.Errorf("%s under %s: %s", c.mounted, c.policy, r.Verdict)
		}
	}
	for _, body := range []string{`{}`, `{"mounts":[]}`, `{"mounts":[{"destination":"/a"}]}`, `{"mounts":[{"destination":"/a","place":"/b","more":1}]}`,
		`{"mounts":[{"destination":"/a","place":"/b"}],"mounts_sha384":"` + strings.Repeat("0a", 48) + `"}`} {
		w := newWorld(t, sim.Config{})
		w.launch(idOne, "one", "/bin/one")
		w.own(idOne, logs.OpMounted, body)
		expect(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()), NotAuthentic, StepCaller)
	}
}
