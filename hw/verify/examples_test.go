package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// exampleRules are what cimad.toml has where the examples count: labels and variables
// that evidence shows.
var exampleRules = launch.Rules{Labels: []string{"team"}, Public: []string{"MODE", "QUEUE"}}

// askedBy is what a line asks for, as the daemon logs it.
func askedBy(t *testing.T, line string) string {
	t.Helper()
	config, err := launch.ParseImageConfig([]byte(`{"config":{"Env":["PATH=/usr/bin:/bin"],"Entrypoint":["/shop"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	users, err := predict.ParseUsers([]byte("root:x:0:0::/root:/bin/sh\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := predict.Line(line, os.ReadFile)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	p, err := predict.Predict(c, predict.Image{Config: config, Users: users}, predict.Host{LSM: "none"}, exampleRules)
	if err != nil || len(p.Unknown) > 0 {
		t.Fatalf("%s: %v, %v", line, err, p)
	}
	asked, err := canonical.Marshal(p.Launch.Asked)
	if err != nil {
		t.Fatal(err)
	}
	return string(asked)
}

// exampleWorld is a TD in which a line started a container of idOne.
func exampleWorld(t *testing.T, line string) *world {
	w := newWorld(t, sim.Config{})
	w.asked(idOne, "shop", askedBy(t, line))
	w.own(idOne, logs.OpExec, `{"path":"/shop","sha384":"`+strings.Repeat("e1", 48)+`"}`)
	w.own(idOne, logs.OpExtend, `{"domain":"ledger","operation":"config","content":"1"}`)
	return w
}

// exampleHere is an example of cima-policy(5) with the firmware, the system and the
// image's digest of this TD in place of its own. Containers and wishes stay as they are.
func exampleHere(t *testing.T, name string, r *Result) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("policy", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), "\n\n[t") // [td] or [tcb]
	_, callers, isThere := strings.Cut(rest, "\n[image.")
	if !ok || !isThere {
		t.Fatalf("%s has no boot, or no image", name)
	}
	_, boot, _ := strings.Cut(bootText(r, ""), "\n[firmware")
	boot = strings.Replace(boot, `name="one"`, `name="UKI of November"`, 1)
	head = strings.ReplaceAll(head, `waive = ["firmware-varies"]`, "")
	head = strings.Replace(head, "cima_policy = 2\n", "cima_policy = 2\nwaive = [\"collateral\", \"root-not-covered\"]\n", 1)
	text := head + "\n[firmware" + boot + "[image." + callers
	for _, digest := range []string{"11", "21", "23", "31"} {
		text = strings.ReplaceAll(text, "sha256:"+strings.Repeat(digest, 32), imageDigestOf("shop"))
	}
	c := r.Claims.Container
	text = strings.ReplaceAll(text, strings.Repeat("9c", 48), c.LaunchDigest.String())
	return strings.ReplaceAll(text, strings.Repeat("9d", 48), c.DefaultsDigest.String())
}

// Containers that ask for evidence, and so have cimad's socket, meet the manual's
// examples; what the examples don't name, they refuse.
func TestExamplesAreMet(t *testing.T) {
	const socket = "-v /run/cima:/run/cima:ro "
	for _, c := range []struct{ policy, name, before, after string }{
		{"app.toml", "shop", "docker run -u 1000 --label team=shop ", "img --port=8443"},
		{"platform.toml", "front", "docker run -e MODE=prod ", "img"},
		{"platform.toml", "workers", "podman run -e QUEUE=us -e MODE=prod -u 65532 -v work-7:/work ", "img"},
		{"platform.toml", "workers", "docker run -e QUEUE=eu -e MODE=prod -u 65532 ", "img"},
		{"bank.toml", "ledger", "docker run ", "img"},
	} {
		for more, meets := range map[string]bool{
			socket:                                 true,
			"":                                     c.name == "workers", // only, not all of these
			"-v /run/cima:/run/cima ":              false,
			socket + "-v /srv:/srv:ro ":            false,
			socket + "-e LD_PRELOAD=/x.so ":        false,
			socket + "-e DEBUG=1 ":                 false,
			"-v /run/cima-admin:/run/cima:ro ":     false,
			socket + "-v /run/cima:/run/cima2:ro ": false,
		} {
			line := c.before + more + c.after
			w := exampleWorld(t, line)
			claims := w.claims(idOne)
			claims.UserData = []byte("key")
			opts := w.options()
			opts.UserData, opts.NonceMade = &claims.UserData, time.Date(2026, 12, 10, 0, 0, 0, 0, time.UTC)
			opts.At = opts.NonceMade.Add(time.Second)
			bundle := encode(t, w.seal(claims, w.key))
			text := exampleHere(t, c.policy, appraiseT(t, bundle, opts))
			if c.name == "ledger" && !meets { // its launch is the good line's
				good := exampleWorld(t, c.before+socket+c.after).claims(idOne).Container.LaunchDigest
				text = strings.ReplaceAll(text, claims.Container.LaunchDigest.String(), good.String())
			}
			opts.Policy = parsePolicy(t, text)
			r := appraiseT(t, bundle, opts)
			if !meets {
				expect(t, r, NotTrusted, StepCallerValues)
				continue
			}
			if expect(t, r, Trusted); r.Container != nil && r.Container.Name != c.name {
				t.Errorf("%s is %q", line, r.Container.Name)
			}
		}
	}
}

// Hints lead out: to what the policy lacks, not to a waiver that there isn't.
func TestHintsLeadOut(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	bundle := encode(t, w.evidence(idOne))
	fits := textOf(t, appraiseT(t, bundle, opts))
	opts.Policy = parsePolicy(t, "cima_policy = 2\n")
	if r := appraiseT(t, bundle, opts); r.Verdict != NotTrusted || !strings.Contains(r.Hint, "policy init\" writes [[boot]]") {
		t.Errorf("%s: %q", r.Verdict, r.Hint)
	}
	w.public(logs.OpPower, `{"classes":["namespace:pid"]}`)
	bundle = encode(t, w.evidence(idOne))
	opts.Policy = parsePolicy(t, fits)
	r := appraiseT(t, bundle, opts)
	if expect(t, r, NotTrusted, StepPower); !strings.Contains(r.Hint, "[power] allow") {
		t.Errorf("%q", r.Hint)
	}
}
