package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func on(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t
}

// wrong are the names of what a level does not meet.
func wrong(found Findings) string {
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
	good := Level{Status: "UpToDate", Platform: "UpToDate", QE: "UpToDate", Date: on("2026-08-12"), Evaluation: 20, Issued: on("2026-11-25")}
	old := Level{Status: "OutOfDate", Platform: "OutOfDate", QE: "UpToDate", Date: on("2026-02-01"), Next: on("2026-11-10"), Evaluation: 20, Issued: on("2026-11-25"), Advisories: []string{"INTEL-SA-01000"}}
	oldQE, both, config := old, old, old
	oldQE.Platform, oldQE.QE, oldQE.Next, oldQE.QENext = "UpToDate", "OutOfDate", time.Time{}, on("2026-11-10")
	both.QE, both.QENext = "OutOfDate", on("2026-10-01")
	config.Status, config.Platform = "OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"
	revoked, newest := old, old
	revoked.Status, revoked.Platform = "Revoked", "Revoked"
	newest.Next = time.Time{}
	hardening := good
	hardening.Status, hardening.Platform, hardening.Advisories = "SWHardeningNeeded", "SWHardeningNeeded", []string{"INTEL-SA-00615"}
	for _, c := range []struct {
		rules string
		level Level
		wrong string
	}{
		{"", good, ""}, {"", old, "TCB status"}, {"", hardening, "TCB status"}, {"", revoked, "TCB status"},
		{`statuses = ["UpToDate", "OutOfDate"]`, old, ""}, {`statuses = "OutOfDate"`, good, "TCB status"},
		{`grace = "30d"`, old, ""}, {`grace = "20d"`, old, "TCB status"}, {`grace = "30d"`, newest, "TCB status"}, {`grace = "30d"`, revoked, "TCB status"},
		{`grace = "30d"`, oldQE, ""}, {"grace = \"30d\"\nqe_grace = \"1d\"", oldQE, "TCB status"}, {`grace = "30d"`, both, "TCB status"}, {"grace = \"30d\"\nqe_grace = \"90d\"", both, ""},
		{`grace = "30d"`, config, "TCB status"}, {"grace = \"30d\"\nstatuses = [\"UpToDate\", \"ConfigurationNeeded\"]", config, ""},
		{`min_date = 2026-08-12`, good, ""}, {`min_date = 2026-08-13`, good, "TCB date"}, {`min_date = 2026-08-12T01:00:00+01:00`, good, ""},
		{`min_evaluation = 20`, good, ""}, {`min_evaluation = 21`, good, "TCB evaluation number"},
		{`collateral = "7d"`, good, ""}, {`collateral = "5d"`, good, "age of collateral"},
		{"statuses = \"SWHardeningNeeded\"\nallow = \"INTEL-SA-00615\"", hardening, ""}, {"statuses = \"SWHardeningNeeded\"\nallow = \"INTEL-SA-00616\"", hardening, "advisory"},
		{"statuses = \"SWHardeningNeeded\"\nallow = []", hardening, "advisory"}, {"statuses = \"SWHardeningNeeded\"\ndeny = \"INTEL-SA-00615\"", hardening, "advisory"},
		{"statuses = \"SWHardeningNeeded\"\ndeny = \"*\"", hardening, "advisory"}, {"statuses = \"SWHardeningNeeded\"\nallow = \"*\"\ndeny = \"INTEL-SA-1\"", hardening, ""},
		{`deny = "*"`, good, ""},
	} {
		p := parse(t, "cima_policy = 2\n[tcb]\n"+c.rules+"\n")
		if got := wrong(p.JudgeLevel(c.level, december)); got != c.wrong {
			t.Errorf("%q: %s: %q, want %q", c.rules, c.level.Status, got, c.wrong)
		}
	}
	if got := wrong((*Policy)(nil).JudgeLevel(old, december)); got != "TCB status" {
		t.Errorf("without a policy: %q", got)
	}
}
