package policy

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/policy"
)

// oneDigests writes digests in a policy of these tests.
var oneDigests = strings.NewReplacer("A96", strings.Repeat("a", 96), "B96", strings.Repeat("B", 96), "Z96", strings.Repeat("0", 96), "1D", strings.Repeat("1", 64))

const oneBoot = "[[boot]]\nname = \"b \\n c\"\nmrtd = \"A96\"\nrtmr0 = \"A96\"\nrtmr1 = \"B96\"\nrtmr2 = \"Z96\"\n"

func TestFormOne(t *testing.T) {
	const rest = `[td]
allow_debug = true
[tcb]
statuses = ["UpToDate", "SWHardeningNeeded"]
min_date = "2025-08-13"
min_svn = "0501"
[agent]
anchors = ["rtmr3", "report-data"]
allow_new_key = true
[container]
any = true
image_digests = ["sha256:1D"]
start = ["gated", "observed"]
source = ["bundle"]
cgroup_owner = [0, 1000]
execs = ["B96"]
exec_verity = ["sha256:1D"]
[host]
units = ["a.service"]
[power]
allow = ["privileged", "of yore"]
[[required]]
operation = "system"
match = { path = "/a", argv = ["a", "b"] }
[[forbidden]]
operation = "launch"
`
	text, notes, err := convertText("-", []byte(oneDigests.Replace(oneBoot+rest)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Parse("new", []byte(text)); err != nil {
		t.Fatal(err)
	}
	for _, want := range strings.Split(oneDigests.Replace(`waive = ["anchor", "agent-key"]
[tcb]
statuses = ["UpToDate", "SWHardeningNeeded"]
min_date = 2025-08-13
min_svn = "0501"
[firmware.boot-1]
mrtd = "A96"
rtmr2 = "zero"
root = "not covered"
host_input = "unknown"
digests = ["sha256:1D"]
waive = ["start-observed"]
image = "image"
source = ["bundle"]
cgroup_owner = [0, 1000]
units = ["a.service"]
allow = ["privileged"]
operation = "system"
argv = ["a", "b"]
operation = "launch"
`)+`rtmr1 = "`+strings.Repeat("b", 96)+"\"\nexecs = [\""+strings.Repeat("b", 96)+`", "sha256:`+strings.Repeat("1", 64)+`"]`, "\n") {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "any = true") || strings.Contains(text, "\n[td]") {
		t.Errorf("it trusts more:\n%s", text)
	}
	all := strings.Join(notes, "\n")
	for _, want := range []string{"td.allow_debug is left out", `power.allow "of yore" is left out`, "host_input is \"unknown\"", "waive executions"} {
		if !strings.Contains(all, want) || !strings.Contains(text, want) {
			t.Errorf("notes lack %q:\n%s", want, all)
		}
	}
}

// TestFormOneRefused: what demanded more, and can't be said, is an error with its name.
func TestFormOneRefused(t *testing.T) {
	for old, want := range map[string]string{
		"[container]\nlaunch_digests = [\"A96\"]":                                   "container.launch_digests can't be converted",
		"[container]\nany = true\n[container.launch]\narguments = [\"a\"]":          "container.launch can't be converted",
		"[container]\nany = true\n[container.launch]\n":                             "container.launch can't be converted",
		"[container]\nany = true\nstart = [\"observed\"]":                           "container.start can't be converted",
		"[container]\nany = true\nstart = []":                                       "container.start must not be empty",
		"[container]\nany = true\ncgroup_owner = []":                                "container.cgroup_owner must not be empty",
		"[container]\nany = true\nexecs = []":                                       "container.execs must not be empty",
		"[container]\nany = true\nsource = [\"x\"]":                                 "form 2 doesn't take",
		"[agent]\nanchors = [\"report-data\"]":                                      "agent.anchors can't be converted",
		"[agent]\nanchors = [\"rtmr3\", \"x\"]":                                     "\"x\" must be",
		"[tcb]\nstatuses = []":                                                      "tcb.statuses must not be empty",
		"[tcb]\nmin_date = \"2025\\nx = 1\"":                                        "tcb.min_date can't be converted",
		"[tcb]\nmin_svn = \"xx\"":                                                   "form 2 doesn't take",
		"[[boot]]\nmrtd = \"A96\"":                                                  "boot 1 (\"\") is left out: it must have mrtd",
		oneBoot + "[[boot.events]]\nrtmr = 2\nany = true":                           "its events are a set",
		"[[forbidden]]\noperation = \"launch\"\nmatch = { all_devices = true }":     "forbidden 1 (launch) can't be converted",
		"[[forbidden]]\noperation = \"exec\"\nmatch = { late = false }":             "match.late can't be converted",
		"[[required]]\noperation = \"exec\"\nmatch = { path = { prefix = \"/\" } }": "match.path can't be converted",
		"[[required]]\noperation = \"exec\"\nmatch = { pfad = \"/\" }":              "form 2 doesn't take",
		"[[required]]\noperation = \"x\"":                                           "form 2 doesn't take",
		"[host]\nunit = [\"a\"]":                                                    "key \"host.unit\" must be one of form 1",
		"[host]\nUnits = [\"a\"]":                                                   "key \"host.Units\"",
		"cima_policy = 2\n":                                                         "it has cima_policy",
		"[[required]]\noperation = \"image\"\nmatch = { layers = [\"\"] }":          "match.layers can't be converted",
		"[[required]]\noperation = \"start\"\nmatch = { version = 2025-01-01 }":     "match.version can't be converted",
		strings.ReplaceAll(oneBoot, "mrtd = \"A96\"", "mrtd = \"Z96\""):             "form 2 doesn't take",
		"[td]\nallow_debug = \"yes\"":                                               "allow_debug",
	} {
		text, _, err := convertText("old.toml", []byte(oneDigests.Replace(old)))
		if err == nil || !strings.Contains(err.Error(), want) || text != "" {
			t.Errorf("%q: %v, want %q\n%s", old, err, want, text)
		}
	}
}

// TestFormOneOfBoots: a boot that can't be said is left out, where another can.
func TestFormOneOfBoots(t *testing.T) {
	text, notes, err := convertText("-", []byte(oneDigests.Replace(oneBoot+"os_log = true\n"+oneBoot+"events = [{rtmr = 2, text = \"x\"}]\n")))
	if err != nil || strings.Count(text, "[[boot]]") != 1 || !strings.Contains(text, "os_log = true") || len(notes) != 2 || !strings.HasPrefix(notes[1], "boot 2") {
		t.Errorf("%v %q\n%s", err, notes, text)
	}
}

func FuzzFormOne(f *testing.F) {
	f.Add(oneDigests.Replace(oneBoot + "[power]\nallow = [\"privileged\"]\n[[required]]\noperation = \"exec\"\nmatch = {path = \"/x\"}\n"))
	f.Fuzz(func(t *testing.T, old string) {
		text, _, err := convertText("x.toml", []byte(old))
		if err != nil {
			return
		}
		if _, err := policy.Parse("new", []byte(text)); err != nil {
			t.Errorf("%q became\n%s\n%v", old, text, err)
		}
	})
}
