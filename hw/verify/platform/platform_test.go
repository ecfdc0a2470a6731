package platform

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

func on(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t
}

var december = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// parse reads rules of [tcb] and, behind it, of another table; age is how old collateral
// may be.
func parse(t *testing.T, rules string, age time.Duration) (*Rules, error) {
	t.Helper()
	whole, err := tables.Read("p.toml", []byte("[tcb]\n"+rules+"\n"), 1<<20)
	if err != nil {
		return nil, err
	}
	tcb, _ := whole.One("tcb")
	r := Read(tcb, age)
	tcb.Done()
	return r, whole.Errors()
}

func good(t *testing.T, rules string, age time.Duration) *Rules {
	t.Helper()
	r, err := parse(t, rules, age)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wrong are the names of what a level does not meet.
func wrong(found wanted.Findings) string {
	var names []string
	for _, f := range found {
		if !f.OK && !slices.Contains(names, f.What) {
			names = append(names, f.What)
		}
	}
	return strings.Join(names, ", ")
}

// The patch level: status or grace, then date, evaluation number and advisories.
func TestLevel(t *testing.T) {
	fine := Level{Status: "UpToDate", Platform: "UpToDate", QE: "UpToDate", Date: on("2026-08-12"), Evaluation: 20, Issued: on("2026-11-25")}
	old := Level{Status: "OutOfDate", Platform: "OutOfDate", QE: "UpToDate", Date: on("2026-02-01"), Next: on("2026-11-10"), Evaluation: 20, Issued: on("2026-11-25"), Advisories: []string{"INTEL-SA-01000"}}
	oldQE, both, config := old, old, old
	oldQE.Platform, oldQE.QE, oldQE.Next, oldQE.QENext = "UpToDate", "OutOfDate", time.Time{}, on("2026-11-10")
	both.QE, both.QENext = "OutOfDate", on("2026-10-01")
	config.Status, config.Platform = "OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"
	revoked, newest := old, old
	revoked.Status, revoked.Platform = "Revoked", "Revoked"
	newest.Next = time.Time{}
	hardening := fine
	hardening.Status, hardening.Platform, hardening.Advisories = "SWHardeningNeeded", "SWHardeningNeeded", []string{"INTEL-SA-00615"}
	for _, c := range []struct {
		rules string
		level Level
		wrong string
	}{
		{"", fine, ""}, {"", old, "TCB status"}, {"", hardening, "TCB status"}, {"", revoked, "TCB status"},
		{`statuses = ["UpToDate", "OutOfDate"]`, old, ""}, {`statuses = "OutOfDate"`, fine, "TCB status"},
		{`grace = "30d"`, old, ""}, {`grace = "20d"`, old, "TCB status"}, {`grace = "30d"`, newest, "TCB status"}, {`grace = "30d"`, revoked, "TCB status"},
		{`grace = "30d"`, oldQE, ""}, {"grace = \"30d\"\nqe_grace = \"1d\"", oldQE, "TCB status"}, {`grace = "30d"`, both, "TCB status"}, {"grace = \"30d\"\nqe_grace = \"90d\"", both, ""},
		{`grace = "30d"`, config, "TCB status"}, {"grace = \"30d\"\nstatuses = [\"UpToDate\", \"ConfigurationNeeded\"]", config, ""},
		{`min_date = 2026-08-12`, fine, ""}, {`min_date = 2026-08-13`, fine, "TCB date"}, {`min_date = 2026-08-12T01:00:00+01:00`, fine, ""},
		{`min_evaluation = 20`, fine, ""}, {`min_evaluation = 21`, fine, "TCB evaluation number"},
		{"# 7 days", fine, ""}, {"# 5 days", fine, "age of collateral"},
		{"statuses = \"SWHardeningNeeded\"\nallow = \"INTEL-SA-00615\"", hardening, ""}, {"statuses = \"SWHardeningNeeded\"\nallow = \"INTEL-SA-00616\"", hardening, "advisory"},
		{"statuses = \"SWHardeningNeeded\"\nallow = []", hardening, "advisory"}, {"statuses = \"SWHardeningNeeded\"\ndeny = \"INTEL-SA-00615\"", hardening, "advisory"},
		{"statuses = \"SWHardeningNeeded\"\ndeny = \"*\"", hardening, "advisory"}, {"statuses = \"SWHardeningNeeded\"\nallow = \"*\"\ndeny = \"INTEL-SA-1\"", hardening, ""},
		{`deny = "*"`, fine, ""},
	} {
		var age time.Duration
		if days, ok := strings.CutPrefix(c.rules, "# "); ok {
			age = map[string]time.Duration{"7 days": 7 * 24 * time.Hour, "5 days": 5 * 24 * time.Hour}[days]
		}
		if got := wrong(good(t, c.rules, age).JudgeLevel(c.level, december)); got != c.wrong {
			t.Errorf("%q: %s: %q, want %q", c.rules, c.level.Status, got, c.wrong)
		}
	}
	if got := wrong((*Rules)(nil).JudgeLevel(old, december)); got != "TCB status" {
		t.Errorf("without a policy: %q", got)
	}
}

// What the PCK certificate says of the platform: refused, taken, or told.
func TestPlatform(t *testing.T) {
	const mine, another = "00112233445566778899aabbccddeeff", "ff112233445566778899aabbccddeeff"
	set := func(smt, dynamic, cached bool) map[string]bool {
		return map[string]bool{"smt": smt, "dynamic_platform": dynamic, "cached_keys": cached}
	}
	for _, c := range []struct {
		rules string
		words map[string]bool
		wrong string
		told  int
	}{
		{"", set(true, true, true), "", 3}, {"", set(false, false, false), "", 0}, {"", nil, "", 0},
		{"smt = true", set(true, false, false), "", 1}, {"smt = false", set(true, false, true), "smt", 1},
		{"smt = false", set(false, false, false), "", 0}, {"smt = false", nil, "smt", 0}, {"smt = true", nil, "", 0},
		{"dynamic_platform = false", set(true, true, true), "dynamic_platform", 2},
		{"cached_keys = false\nsmt = false", set(true, false, true), "smt, cached_keys", 0},
		{`provider_ids = "` + mine + `"`, nil, "", 0}, {`provider_ids = ["` + another + `", "` + mine + `"]`, nil, "", 0},
		{`provider_ids = "` + another + `"`, nil, "provider id (PPID)", 0}, {"provider_ids = []", nil, "provider id (PPID)", 0},
	} {
		found, told := good(t, c.rules, 0).JudgePlatform(Certified{Provider: mine, Words: c.words})
		if got := wrong(found); got != c.wrong || len(told) != c.told {
			t.Errorf("%q, %v: %q, want %q; told %q", c.rules, c.words, got, c.wrong, told)
		}
	}
	if found, _ := good(t, "provider_ids = \""+mine+"\"", 0).JudgePlatform(Certified{}); wrong(found) == "" {
		t.Error("a certificate that can't be read is of a known provider")
	}
	for _, rules := range []string{"smt = 1", `smt = "no"`, `provider_ids = "00"`, `provider_ids = "` + strings.ToUpper(mine) + `"`, "dynamic = false"} {
		if _, err := parse(t, rules, 0); err == nil {
			t.Errorf("%s: accepted", rules)
		}
	}
}

// The module that runs now must be as new as the one that the TD was started by.
func TestJudgeSVN(t *testing.T) {
	p := good(t, "min_svn = \"0301\"", 0)
	for _, c := range []struct {
		svns  [][16]byte
		wrong string
	}{
		{[][16]byte{{3, 1}}, ""}, {[][16]byte{{2, 9}}, "TEE_TCB_SVN"}, {[][16]byte{{3, 1}, {3, 1}}, ""}, {[][16]byte{{3, 1}, {9, 9}}, ""},
		{[][16]byte{{3, 1}, {3, 0}}, "TEE_TCB_SVN_2"}, {[][16]byte{{3, 0}, {9, 9}}, "TEE_TCB_SVN"}, {[][16]byte{{0, 0}, {0, 0}}, "TEE_TCB_SVN, TEE_TCB_SVN_2"},
	} {
		if got := wrong(p.JudgeSVN(c.svns...)); got != c.wrong {
			t.Errorf("%v: %q, want %q", c.svns, got, c.wrong)
		}
	}
}

// Some platforms have rules of their own, which count for them in place of [tcb]'s; what
// they don't say is as there.
func TestPlatformsOfTheirOwn(t *testing.T) {
	one, other := strings.Repeat("0a", 16), strings.Repeat("0b", 16)
	old := Level{Status: "OutOfDate", Platform: "OutOfDate", QE: "UpToDate", Date: on("2026-02-01"), Next: on("2026-11-10"), Issued: on("2026-11-25")}
	oldQE := Level{Status: "OutOfDate", Platform: "UpToDate", QE: "OutOfDate", Date: on("2026-02-01"), QENext: on("2026-11-10"), Issued: on("2026-11-25")}
	rules := good(t, "min_date = 2026-01-01\n[[tcb.platform]]\nprovider_ids = \""+one+"\"\ngrace = \"30d\"\nqe_grace = \"0d\"", 0)
	for _, c := range []struct {
		provider string
		level    Level
		at, want string
	}{
		{one, old, "2026-12-09", ""},
		{one, old, "2026-12-10", "TCB status"},
		{one, oldQE, "2026-11-11", "TCB status"}, // 0d is no grace, and not that of the platform
		{other, old, "2026-11-11", "TCB status"},
		{"", old, "2026-11-11", "TCB status"},
	} {
		if got := wrong(rules.For(Certified{Provider: c.provider}).JudgeLevel(c.level, on(c.at))); got != c.want {
			t.Errorf("%s at %s: %q is wrong, want %q", c.provider, c.at, got, c.want)
		}
	}
	old.Date = on("2025-12-31")
	if got := wrong(rules.For(Certified{Provider: one}).JudgeLevel(old, on("2026-11-11"))); got != "TCB date" {
		t.Errorf("what [tcb] says and the platform's table doesn't: %q", got)
	}
	if found, _ := rules.For(Certified{Provider: one}).JudgePlatform(Certified{Provider: one}); wrong(found) != "" {
		t.Errorf("a platform of its own: %+v", found)
	}
	if (*Rules)(nil).For(Certified{}) != nil {
		t.Error("no rules have rules")
	}
	for text, want := range map[string]string{
		"[[tcb.platform]]\ngrace = \"30d\"":                                                           "[[tcb.platform]]: provider_ids must be there",
		"provider_ids = \"" + one + "\"\n[[tcb.platform]]\ngrace = \"30d\"":                           "provider_ids must be there",
		"[[tcb.platform]]\nprovider_ids = \"x\"":                                                      "32 lower-case hex digits",
		"[[tcb.platform]]\nprovider_ids = \"" + one + "\"\ngracious = 1":                              "gracious",
		"statuses = \"OutOfDate\"\n[[tcb.platform]]\nprovider_ids = \"" + one + "\"\ngrace = \"30d\"": "grace must be left out",
		"platform = 1": "[[platform]]",
	} {
		if _, err := parse(t, text, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}
