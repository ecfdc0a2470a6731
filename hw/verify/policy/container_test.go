package policy

import (
	"crypto/sha512"
	"encoding/json/jsontext"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/wanted"
	"github.com/cima-project/cima/logs"
)

func sha256Of(b string) string { return "sha256:" + strings.Repeat(b, 32) }

// callerOf is a container with these facts, as root's engine starts it.
func callerOf(image, asked string) Caller {
	return Caller{
		LaunchDigest: digest("9c"), DefaultsDigest: digest("9d"),
		Launch: jsontext.Value(`{"asked":` + asked + `,"cgroup_owner":0,"defaults":{"umask":18},"source":"bundle"}`),
		Image:  jsontext.Value(`{"digest":"` + image + `","reference":"x"}`),
		Claims: jsontext.Value(`{"container":{"assurance":{"start":"gated"},"runtime":"docker"}}`),
	}
}

func judge(t testing.TB, p *Policy, c Caller, boots ...Boot) Containers {
	t.Helper()
	found, err := p.JudgeContainer(c, boots, december)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The example's containers, and what the nearest one says of others.
func TestContainers(t *testing.T) {
	p := parse(t, example(t, "platform.toml"))
	web, queue := sha256Of("22"), sha256Of("23")
	const socket = `{"destination":"/run/cima","options":["ro"],"source":"/run/cima","type":"bind"}`
	front := func(environment string) string {
		return `{"environment":[` + environment + `],"mounts":[` + socket + `]}`
	}
	workers := func(queue, mounts string) string {
		return `{"environment":[{"name":"MODE","value":"prod"},{"name":"QUEUE","value":"` + queue + `"}],"user":{"gid":0,"uid":65532},"mounts":[` + mounts + `]}`
	}
	for _, c := range []struct{ image, asked, name, nearest, differ string }{
		{web, front(`{"name":"MODE","value":"prod"}`), "front", "", ""},
		{web, front(`{"name":"MODE","sha384":"` + sum("prod") + `"}`), "front", "", ""},
		{web, front(`{"name":"A"},{"name":"MODE","value":"prod"}`), "", "front", `match.asked.environment is {"A":{},"MODE":{"value":"prod"}}, want {"MODE":"prod"}`},
		{web, front(`{"name":"MODE","value":"test"}`), "", "front", `match.asked.environment is {"MODE":{"value":"test"}}, want {"MODE":"prod"}`},
		{web, front(`{"name":"MODE","sha384":"` + sum("test") + `"}`), "", "front", `match.asked.environment is {"MODE":{"sha384":`},
		{web, front(`{"name":"MODE"}`), "", "front", `match.asked.environment is {"MODE":{}}`},
		{web, front(`{"name":"MODE","value":"prod"},{"name":"MODE","value":"test"}`), "", "front", `match.asked.environment is [`},
		{web, `{}`, "", "front", `match.asked.environment is nothing, want {"MODE":"prod"}`},
		{web, `{"mounts":[{"destination":"/x"}]}`, "", "front", `match.asked.environment is nothing, want {"MODE":"prod"}`}, // and another fact
		{web, `{"environment":[{"name":"MODE","value":"prod"}],"mounts":[{"destination":"/x"}]}`, "", "front", `match.asked.mounts is [{"destination":"/x"}], want [{destination, options, source}]`},
		{queue, workers("us", socket), "workers", "", ""},
		{queue, workers("us", socket+`,{"destination":"/work","volume":"work-1"}`), "workers", "", ""},
		{queue, workers("us", socket+`,{"destination":"/work","volume":"work-1"},{"destination":"/etc"}`), "", "workers", `match.asked.mounts is `},
		{queue, workers("asia", socket), "", "workers", `{"MODE":{"value":"prod"},"QUEUE":{"value":"asia"}}, want {"MODE":"prod","QUEUE":"eu"} or {"MODE":"prod","QUEUE":"us"}`},
		{sha256Of("24"), `{}`, "", "", "no [[container]] has the image sha256:2424"},
	} {
		found := judge(t, p, callerOf(c.image, c.asked))
		if c.name != "" && (found.Known == nil || found.Known.Name != c.name) || c.name == "" && found.Known != nil || found.Nearest != c.nearest || !strings.Contains(found.Differ, c.differ) {
			t.Errorf("%s: %+v, want %+v", c.asked, found, c)
		}
	}
}

// A key with an empty list is no key that is absent: nothing is one of its values, and so it
// is refused, where it can't be meant.
func TestEmptyListsOfContainers(t *testing.T) {
	const images = "cima_policy = 2\n[image.web]\ndigests = \"sha256:2222222222222222222222222222222222222222222222222222222222222222\"\n[[container]]\nname = \"x\"\n"
	for text, good := range map[string]bool{
		`image = "web"`: true, "image = \"web\"\nlaunch = []": false, "image = \"web\"\ndefaults = []": false, "image = \"web\"\nboot = []": false,
		"any = true\nimage = []": false, "image = \"web\"\nexecs = []": true, "image = \"web\"\nsource = []": true,
	} {
		if _, err := Parse("policy", []byte(images+text+"\n[[container]]\nname = \"y\"\nimage = \"web\"\n")); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Each fact that an alternative binds counts.
func TestContainerBinds(t *testing.T) {
	p := parse(t, example(t, "bank.toml"))
	boots := []Boot{{Name: "UKI of November"}}
	good := callerOf(sha256Of("31"), `{}`)
	good.Execs = []Exec{{SHA384: hexOf("e1")}, {SHA384: hexOf("e1")}, {hexOf("e4"), hexOf("e2")}}
	if found := judge(t, p, good, boots...); found.Known == nil || !slices.Equal(found.Known.Gaps, []string{codes.Volumes}) {
		t.Fatalf("%+v", found)
	}
	for want, change := range map[string]func(*Caller){
		"launch digest is":              func(c *Caller) { c.LaunchDigest = digest("9d") },
		"defaults digest is":            func(c *Caller) { c.DefaultsDigest = digest("9c") },
		"defaults digest is zero":       func(c *Caller) { c.DefaultsDigest = hw.Digest{} },
		"it executed e3e3":              func(c *Caller) { c.Execs = append(c.Execs, Exec{SHA384: hexOf("e3")}) },
		"image is sha256:3030":          func(c *Caller) { c.Image = jsontext.Value(`{"digest":"` + sha256Of("30") + `"}`) },
		"image is not known":            func(c *Caller) { c.Image = jsontext.Value(`{"absent":"gone"}`) },
		"source is user":                func(c *Caller) { c.Launch = jsontext.Value(`{"cgroup_owner":0,"source":"user"}`) },
		"cgroup owner is 1000":          func(c *Caller) { c.Launch = jsontext.Value(`{"cgroup_owner":1000,"source":"bundle"}`) },
		"cgroup owner is <nil>, want 0": func(c *Caller) { c.Launch = jsontext.Value(`{"source":"bundle"}`) },
	} {
		bad := good
		bad.Execs = slices.Clone(good.Execs)
		change(&bad)
		if found := judge(t, p, bad, boots...); found.Known != nil || !strings.Contains(found.Differ, want) {
			t.Errorf("%s: %+v", want, found)
		}
	}
	if found := judge(t, p, good, Boot{Name: "old, until the move is done"}); !strings.Contains(found.Differ, "the boot is none of UKI of November") {
		t.Errorf("%+v", found)
	}
	untraced := good
	untraced.Execs, untraced.Unproved = nil, true
	found := judge(t, p, untraced, boots...)
	if found.Known == nil || !slices.Contains(found.Known.Gaps, codes.Executions) {
		t.Fatalf("%+v", found)
	}
	if stands, _ := p.Wishes(nil, found.Known).Stands(codes.Executions); !stands {
		t.Error("executions that nobody measured don't stand in the way of a list of programs")
	}
	if late, err := p.JudgeContainer(good, boots, december.AddDate(1, 0, 0)); err != nil || p.Valid(december.AddDate(1, 0, 0)) == "" {
		t.Error(late, err)
	}
}

// wantedOfFront is what the example wants of the container "front".
const wantedOfFront = `environment.equal = { MODE = "prod" }
mounts = [
  { destination = "/run/cima", source = "/run/cima", options = ["ro"] },
]`

// What is too large to be shown meets nothing, not even absence.
func TestHiddenFacts(t *testing.T) {
	text := strings.Replace(example(t, "platform.toml"), wantedOfFront, "CHANGE", 1)
	for match, meets := range map[string]bool{`hooks = { absent = true }`: true, `terminal = false`: true, `mounts = { only = [] }`: true} {
		p := parse(t, strings.Replace(text, "CHANGE", match, 1))
		c := callerOf(sha256Of("21"), `{}`)
		if found := judge(t, p, c); (found.Known != nil) != meets {
			t.Errorf("%s: %+v", match, found)
		}
		c.Launch = jsontext.Value(`{"asked_sha384":"aa","cgroup_owner":0,"defaults":{},"source":"bundle"}`)
		if found := judge(t, p, c); found.Known != nil || !strings.Contains(found.Differ, "not shown, for it is too large") {
			t.Errorf("%s, not shown: %+v", match, found)
		}
	}
}

// A mount that leads elsewhere has its place in its source's place.
func TestPlaces(t *testing.T) {
	text := strings.Replace(example(t, "platform.toml"), wantedOfFront, `mounts = [MOUNT]`, 1)
	asked := `{"mounts":[{"destination":"/d","source":"/srv"}]}`
	plain, led, two, hidden := match.Places{}, match.Places{}, match.Places{}, match.Places{Hidden: true}
	led.Add("/d", "/etc")
	two.Add("/d", "/etc")
	two.Add("/d", "/srv")
	for _, c := range []struct {
		mount  string
		places match.Places
		fits   bool
	}{
		{`{ destination = "/d", source = "/srv" }`, plain, true},
		{`{ destination = "/d", source = "/srv" }`, led, false},
		{`{ destination = "/d", place = "/etc" }`, led, true},
		{`{ destination = "/d", source = "/srv" }`, two, false},
		{`{ destination = "/d", source = "/srv" }`, hidden, false},
		{`{ destination = "/d", source = { absent = true } }`, hidden, false},
		{`{ destination = "/d" }`, led, true},
	} {
		caller := callerOf(sha256Of("21"), asked)
		caller.Places = c.places
		if found := judge(t, parse(t, strings.Replace(text, "MOUNT", c.mount, 1)), caller); (found.Known != nil) != c.fits {
			t.Errorf("%s, %+v: %+v", c.mount, c.places, found)
		}
	}
	odd := callerOf(sha256Of("21"), `{"mounts":[{"destination":"/d","unknown":1}]}`)
	if found := judge(t, parse(t, strings.Replace(text, "MOUNT", `{ destination = "/d" }`, 1)), odd); found.Known != nil {
		t.Errorf("a mount with an unknown member: %+v", found)
	}
	bound := parse(t, "cima_policy = 2\n[image.web]\ndigests=\""+sha256Of("21")+"\"\n[[container]]\nname=\"x\"\nimage=\"web\"\n")
	caller := callerOf(sha256Of("21"), asked)
	if found := judge(t, bound, caller); slices.Contains(found.Known.Gaps, codes.Mounts) {
		t.Errorf("%+v", found.Known)
	}
	caller.Places = led
	if found := judge(t, bound, caller); !slices.Contains(found.Known.Gaps, codes.Mounts) {
		t.Errorf("%+v", found.Known)
	}
}

func TestHost(t *testing.T) {
	claims := jsontext.Value(`{"host":{"uid":0,"unit":"a.service"}}`)
	for text, want := range map[string]bool{
		"": false, "[host]\nunits = \"a.service\"\n": true, "[host]\nunits = \"b.service\"\n": false, "[host]\nany = true\n": true,
		"[host]\nany = true\nmatch.claims.host.uid = 0\n": true, "[host]\nany = true\nmatch.claims.host.uid = 1\n": false,
	} {
		p := parse(t, "cima_policy = 2\n"+text)
		found, _, err := p.JudgeHost("a.service", claims)
		if fits := !slices.ContainsFunc(found, func(f wanted.Finding) bool { return !f.OK }); err != nil || fits != want {
			t.Errorf("%s: %v %v", text, found, err)
		}
	}
	if found, _, err := parse(t, "cima_policy = 2\n[host]\nunits = \"a\"\n").JudgeHost("", claims); err != nil || found[0].OK {
		t.Error("a process without a unit fits")
	} else if f := found[0]; f.Got != "of no unit" || f.Want != "a" {
		t.Errorf("%+v", f)
	}
	// Who asked for evidence of a container, and got a shell's, must not read "of unit none, must be none".
	if found, _, err := parse(t, "cima_policy = 2\n").JudgeHost("", claims); err != nil || !strings.HasPrefix(found[0].Want, "a container") {
		t.Errorf("%v %v", found, err)
	}
}

func event(t testing.TB, operation, body string) *logs.Event {
	t.Helper()
	content := logs.Content{Measured: jsontext.Value(fmt.Sprintf(`{%q:%s}`, operation, body))}
	if !logs.Public(operation) {
		content.Container, content.Salt = strings.Repeat("1", 64), "c2FsdHNhbHRzYWx0c2FsdA=="
	}
	e, err := logs.NewEvent(operation, content)
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

func TestEvents(t *testing.T) {
	p := parse(t, `cima_policy = 2
[[required]]
operation = "seal"
match.running = { at_most = 2 }
[[required]]
operation = "policy"
match.sha384 = "bb"
[[forbidden]]
operation = "missed"
match.what = { any = ["launch", "event"] }
`)
	seal, missed := event(t, "seal", `{"engines":[],"running":1}`), event(t, "missed", `{"count":1,"what":"exec","why":"x"}`)
	first, last := event(t, "policy", `{"sha384":"aa"}`), event(t, "policy", `{"sha384":"bb"}`)
	for name, c := range map[string]struct {
		events []*logs.Event
		wrong  int
	}{
		"all":        {[]*logs.Event{seal, first, last, missed}, 0},
		"none":       {nil, 2},
		"older last": {[]*logs.Event{seal, last, first}, 1},
		"many":       {[]*logs.Event{event(t, "seal", `{"running":3}`), last}, 1},
		"forbidden":  {[]*logs.Event{seal, last, event(t, "missed", `{"what":"launch"}`)}, 1},
	} {
		e := p.Events()
		for _, one := range c.events {
			if err := e.Judge(one); err != nil {
				t.Fatal(err)
			}
		}
		wrong := 0
		for _, f := range e.Findings() {
			if !f.OK {
				wrong++
			}
		}
		if wrong != c.wrong {
			t.Errorf("%s: %+v", name, e.Findings())
		}
	}
	// A launch that is not shown may be the one that is forbidden.
	p = parse(t, "cima_policy = 2\n[[forbidden]]\noperation = \"launch\"\nmatch.asked.terminal = true\n")
	for body, ok := range map[string]bool{`{"asked":{},"source":"bundle"}`: true, `{"asked":{"terminal":true}}`: false, `{"asked_sha384":"aa"}`: false} {
		e := p.Events()
		if err := e.Judge(event(t, "launch", body)); err != nil || e.Findings()[0].OK != ok {
			t.Errorf("%s: %v %v", body, e.Findings(), err)
		}
	}
}

func sum(text string) string { return fmt.Sprintf("%x", sha512.Sum384([]byte(text))) }
