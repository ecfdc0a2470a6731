package policydiff

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// base is a policy that the tests change.
var base = strings.NewReplacer("A96", strings.Repeat("a", 96), "B96", strings.Repeat("b", 96), "C96", strings.Repeat("c", 96),
	"D96", strings.Repeat("d", 96), "E96", strings.Repeat("e", 96), "1D", strings.Repeat("1", 64), "2D", strings.Repeat("2", 64)).Replace(`
cima_policy = 2
name = "fleet"
until = 2027-03-01
waive = ["firmware-varies"]
[tcb]
min_date = 2026-01-01
grace = "30d"
deny = ["INTEL-SA-01397"]
[power]
allow = ["mount:proc"]
[firmware.gcp]
mrtd = "A96"
rtmr0 = "B96"
[system.old]
rtmr1 = "C96"
rtmr2 = "D96"
line = "quiet"
root = "initrd"
host_input = "none"
[system.new]
rtmr1 = "D96"
rtmr2 = "E96"
line = "ro"
root = "initrd"
host_input = "none"
[[boot]]
name = "fleet"
firmware = "gcp"
system = ["old", "new"]
[image.web]
digests = ["sha256:1D"]
[[container]]
name = "front"
image = "web"
match.asked = { user.uid = 1000, environment.MODE = { any = ["prod", "test"] } }
[[forbidden]]
operation = "missed"
[[revoked]]
digest = "sha256:2D"
why = "CVE-1"
`)

// TestEachChangeIsDescribed: one change, one description that says what it does.
func TestEachChangeIsDescribed(t *testing.T) {
	two := strings.Repeat("2", 64)
	for name, c := range map[string]struct {
		old, new string // texts of base
		want     []string
	}{
		"1 an image's digest more":         {`digests = ["sha256:`, `digests = ["sha256:` + two + `", "sha256:`, []string{`more [image.web] digests has "sha256:` + two + `" now`}},
		"2 a kernel less":                  {`["old", "new"]`, `["new"]`, nil}, // nothing uses [system.old]: refused
		"3 a longer grace":                 {`grace = "30d"`, `grace = "90d"`, []string{`more [tcb] grace is "90d", was "30d"`}},
		"4 an earlier end":                 {`until = 2027-03-01`, `until = 2027-01-01`, []string{`less the policy until is 2027-01-01, was 2027-03-01`}},
		"5 an advisory denied no more":     {`deny = ["INTEL-SA-01397"]`, `deny = []`, []string{`more [tcb] deny has "INTEL-SA-01397" no more`}},
		"6 power allowed":                  {`["mount:proc"]`, `["mount:proc", "privileged"]`, []string{`more [power] allow has "privileged" now`}},
		"7 a fact wanted no more":          {`user.uid = 1000, `, ``, []string{`more [[container]] "front" match.asked.user may be anything now; it had to be { uid = 1000 }`}},
		"8 one choice less":                {`{ any = ["prod", "test"] }`, `"prod"`, []string{`less [[container]] "front" match.asked.environment.MODE has "test" no more`}},
		"9 a revocation more":              {"why = \"CVE-1\"\n", "why = \"CVE-1\"\n[[revoked]]\ndigest = \"sha256:" + strings.Repeat("3", 64) + "\"\nwhy = \"CVE-2\"\n", []string{`less [[revoked]] is new: { digest = "sha256:` + strings.Repeat("3", 64) + `", why = "CVE-2" }`}},
		"10 what was forbidden is allowed": {"[[forbidden]]\noperation = \"missed\"\n", "", []string{`more [[forbidden]] is gone: { operation = "missed" }`}},
		"11 another kernel":                {"rtmr2 = \"" + strings.Repeat("e", 96), "rtmr2 = \"" + strings.Repeat("f", 96), []string{`other [system.new] rtmr2 is "` + strings.Repeat("f", 96) + `", was "` + strings.Repeat("e", 96) + `"`}},
		"12 any launch, then one":          {"image = \"web\"\n", "image = \"web\"\nlaunch = \"" + strings.Repeat("9", 96) + "\"\n", []string{`less [[container]] "front" launch must be "` + strings.Repeat("9", 96) + `" now; anything was allowed`}},
		"13 a status more":                 {"grace = \"30d\"", "grace = \"30d\"\nstatuses = [\"UpToDate\", \"SWHardeningNeeded\"]", []string{`more [tcb] statuses has "SWHardeningNeeded" now`}},
		"14 an older level":                {"min_date = 2026-01-01", "min_date = 2025-01-01", []string{"more [tcb] min_date is 2025-01-01, was 2026-01-01"}},
		"15 no waiver":                     {`waive = ["firmware-varies"]`, "", []string{`less the policy waive has "firmware-varies" no more`}},
		"16 another name":                  {`[image.web]`, `[image.site]`, nil},
		"17 order and comments":            {`["old", "new"]`, "[\"new\", # first\n\"old\"]", []string{}},
		"6a a kind of power allowed":       {`["mount:proc"]`, "[\"mount:proc\"]\nallow_kinds = [\"host-write\"]", []string{`more [power] allow_kinds has "host-write" now`}},
		"18 a new [host]":                  {"[power]", "[host]\nunits = [\"a.service\"]\n[power]", []string{`more [host] processes of the host can be trusted: { units = ["a.service"] }`}},
		"19 an end where there was none":   {"host_input = \"none\"\n[[boot]]", "host_input = \"none\"\nuntil = 2027-01-01\n[[boot]]", []string{`less [system.new] until is 2027-01-01, was absent`}},
		"20 a container renamed":           {`name = "front"`, `name = "shop"`, []string{`words [[container]] "front" is called "shop" now`}},
		"21 a system reads its disks":      {"line = \"ro\"\nroot = \"initrd\"\nhost_input = \"none\"", "line = \"ro\"\nroot = \"initrd\"\nhost_input = [\"disk\"]", []string{`less [system.new] host_input has "disk" now`}},
		"22 less grace for the enclave":    {`grace = "30d"`, "grace = \"30d\"\nqe_grace = \"1d\"", []string{`less [tcb] qe_grace is "1d", was "30d"`}},
		"23 another name of the policy": {`name = "fleet"
until`, `name = "ships"
until`, []string{`words the policy name is "ships", was "fleet"`}},
	} {
		if strings.Count(base, c.old) != 1 {
			t.Fatalf("%s: %q is there %d times", name, c.old, strings.Count(base, c.old))
		}
		changed := strings.Replace(base, c.old, c.new, 1)
		changes, err := Diff("a.toml", []byte(base), "b.toml", []byte(changed))
		if c.want == nil {
			if err == nil {
				t.Errorf("%s: not refused: %v", name, changes)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := lines(changes), strings.Join(c.want, "\n"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		if back, err := Diff("b.toml", []byte(changed), "a.toml", []byte(base)); err != nil || len(back) != len(changes) {
			t.Errorf("%s: the other way round: %v, %v", name, err, back)
		} else if len(back) == 1 && back[0].Effect != map[Effect]Effect{More: Less, Less: More, Other: Other, Words: Words}[changes[0].Effect] {
			t.Errorf("%s: both ways are %s", name, back[0].Effect)
		}
	}
}

func lines(changes []Change) string {
	out := make([]string, len(changes))
	for i, c := range changes {
		out[i] = fmt.Sprintf("%s %s %s", c.Effect, c.Where, c.What)
	}
	return strings.Join(out, "\n")
}

// TestEachKeyHasAMeaning: a key of the manual that no table here names would be told as
// another thing, though it trusts more or less.
func TestEachKeyHasAMeaning(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "man", "cima-policy.5.md"))
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]bool{"rtmr0": true, "rtmr1": true, "rtmr2": true, "line": true, "root": true, "root_word": true,
		"os_log": true, "attributes": true, "xfam": true, "any": true, "operation": true, "digest": true, "why": true, "file": true}
	for _, key := range []string{"mrtd", "digests", "statuses", "grace", "qe_grace", "min_date", "min_evaluation", "min_svn", "allow", "deny",
		"collateral", "launch", "defaults", "boot", "source", "cgroup_owner", "execs", "waive", "demand", "host_input", "from", "until"} {
		if !strings.Contains(string(text), "*"+key+"*") {
			t.Errorf("the manual has no %s", key)
		}
		found := false
		for _, table := range []string{"", "td", "tcb", "power", "host", "firmware", "system", "image", "boot", "container"} {
			found = found || meaningOf(table, key) != differs
		}
		if found == other[key] {
			t.Errorf("%s has a meaning: %v", key, found)
		}
	}
}

func FuzzDiff(f *testing.F) {
	f.Add(base, base)
	f.Add(base, "cima_policy = 2")
	f.Fuzz(func(t *testing.T, a, b string) {
		if changes, err := Diff("a", []byte(a), "a", []byte(a)); err == nil && len(changes) > 0 {
			t.Errorf("a policy differs from itself: %s", lines(changes))
		}
		Diff("a", []byte(a), "b", []byte(b))
	})
}
