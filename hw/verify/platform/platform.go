// Package platform answers: is a TD's platform as a policy wants it?
//
// It reads [tcb] of a policy (cima-policy(5)), and holds the platform's patch level, as
// Intel rates it, and what the platform's certificate says against it.
package platform

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

// statuses are those that a policy can allow (Intel PCS API v4). Revoked is none.
var statuses = []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
	"OutOfDate", "OutOfDateConfigurationNeeded"}

const upToDate = "UpToDate"

// Rules are [tcb]: the platform's patch level.
type Rules struct {
	statuses      []string
	minDate       time.Time
	minEvaluation int64
	allow, deny   []string // advisories
	grace, qe     time.Duration
	minSVN        []byte
	platform      map[string]bool // what [tcb] says of settings
	providers     []string        // PPIDs; nil for any
	age           time.Duration   // how old collateral may be; 0 for any
}

// settings are what a PCK certificate says of a platform's configuration: keys of
// [tcb], with what it means if they are true.
var settings = []struct{ key, what string }{
	{"smt", "threads of one core run at once (SMT)"},
	{"dynamic_platform", "packages can be added to the platform"},
	{"cached_keys", "Intel keeps keys of the platform"},
}

// Certified is what a platform's PCK certificate says of it.
type Certified struct {
	Provider string          // PPID, 32 hex digits
	Words    map[string]bool // by keys of [tcb]: nil where the certificate, a processor's, doesn't say
}

// Level is the patch level of a platform, as Intel rates it.
type Level struct {
	Status     string    // worst of platform, TDX module and quoting enclave
	Platform   string    // of platform and module
	QE         string    // of the quoting enclave
	Date       time.Time // of the level that is reached
	Next       time.Time // of the oldest level above it; zero where there is none
	QENext     time.Time // the same for the quoting enclave
	Advisories []string
	Evaluation int64     // tcbEvaluationDataNumber, the lesser of both documents
	Issued     time.Time // when the older document was issued
}

// providerID is a PPID.
var providerID = regexp.MustCompile(`^[0-9a-f]{32}$`)

const allAdvisories = "*"

func isAdvisory(s string) string {
	if s == allAdvisories || strings.HasPrefix(s, "INTEL-SA-") && len(s) < 32 && s == strings.ToUpper(s) {
		return ""
	}
	return `as "INTEL-SA-00615", or "*" for all`
}

// Read reads [tcb]. age is how old collateral may be, 0 for any.
func Read(t *tables.Table, age time.Duration) *Rules {
	r := &Rules{
		statuses: t.Texts("statuses", tables.OneOf("status", statuses)), minDate: t.Time("min_date"),
		minEvaluation: t.Number("min_evaluation"), allow: t.Texts("allow", isAdvisory), deny: t.Texts("deny", isAdvisory),
		grace: t.Duration("grace"), qe: t.Duration("qe_grace"), providers: t.Texts("provider_ids", isProvider),
		platform: make(map[string]bool), age: age,
	}
	for _, word := range settings {
		if _, there := t.Take(word.key); there {
			r.platform[word.key] = t.Flag(word.key)
		}
	}
	if r.statuses == nil {
		r.statuses = []string{upToDate}
	}
	var err error
	if r.minSVN, err = hex.DecodeString(t.Text("min_svn")); err != nil || len(r.minSVN) > 16 {
		t.Bad("min_svn", "at most 16 bytes in hex: each of TEE_TCB_SVN is at least this")
	}
	if (r.grace > 0 || r.qe > 0) && slices.Contains(r.statuses, "OutOfDate") {
		t.Bad("grace", "left out where statuses has OutOfDate, which has no end")
	}
	return r
}

func isProvider(s string) string {
	if !providerID.MatchString(s) {
		return "32 lower-case hex digits (PPID)"
	}
	return ""
}

// JudgeSVN compares TEE_TCB_SVN, which a quote has without collateral, and TEE_TCB_SVN_2,
// of the TDX module that runs now, where the quote has it.
func (r *Rules) JudgeSVN(svns ...[16]byte) (found wanted.Findings) {
	if r == nil || len(r.minSVN) == 0 {
		return nil
	}
	for i, svn := range svns {
		ok := true
		for i, least := range r.minSVN {
			ok = ok && svn[i] >= least
		}
		what := [2]string{"TEE_TCB_SVN", "TEE_TCB_SVN_2"}[min(i, 1)]
		found.Want(ok, what, "at least "+hex.EncodeToString(r.minSVN), hex.EncodeToString(svn[:]))
	}
	return found
}

// JudgePlatform holds what the PCK certificate says against [tcb]. It returns which of its
// words are true, and allowed or not spoken of.
func (r *Rules) JudgePlatform(c Certified) (found wanted.Findings, told []string) {
	if r == nil {
		r = &Rules{}
	}
	for _, word := range settings {
		is, known := c.Words[word.key]
		switch allowed, said := r.platform[word.key]; {
		case said && !allowed && !known:
			found.Want(false, word.key, "false", "not known: the PCK certificate doesn't say")
		case said && !allowed:
			found.Want(!is, word.key, "false", fmt.Sprint(is))
		case is:
			told = append(told, word.what)
		}
	}
	if r.providers != nil {
		found.Want(slices.Contains(r.providers, c.Provider), "provider id (PPID)", tables.Or(r.providers), c.Provider)
	}
	return found, told
}

// JudgeLevel holds a patch level against [tcb]: the status, or the grace that it has; then
// the date and the evaluation number; then the advisories. Without rules it must be
// UpToDate.
func (r *Rules) JudgeLevel(l Level, at time.Time) (found wanted.Findings) {
	if r == nil {
		r = &Rules{statuses: []string{upToDate}}
	}
	found.Want(r.status(l, at), "TCB status", tables.Or(r.statuses)+r.graceWords(l), l.Status)
	if !r.minDate.IsZero() {
		found.Want(!l.Date.Before(r.minDate), "TCB date", "from "+day(r.minDate)+" on", day(l.Date))
	}
	if r.minEvaluation > 0 {
		found.Want(l.Evaluation >= r.minEvaluation, "TCB evaluation number", fmt.Sprint("at least ", r.minEvaluation), fmt.Sprint(l.Evaluation))
	}
	if r.age > 0 {
		found.Want(at.Sub(l.Issued) <= r.age, "age of collateral", "issued from "+day(at.Add(-r.age))+" on", day(l.Issued))
	}
	if r.allow != nil && !slices.Contains(r.allow, allAdvisories) {
		for _, a := range l.Advisories {
			found.Want(slices.Contains(r.allow, a), "advisory", tables.Or(r.allow), a)
		}
	}
	for _, a := range l.Advisories {
		if slices.Contains(r.deny, a) || slices.Contains(r.deny, allAdvisories) {
			found.Want(false, "advisory", "none of "+tables.Or(r.deny), a)
		}
	}
	return found
}

// status reports whether the status is allowed, or each part that is out of date has
// grace left. Revoked has none.
func (r *Rules) status(l Level, at time.Time) bool {
	if slices.Contains(r.statuses, l.Status) {
		return true
	}
	part := func(status string, next time.Time, grace time.Duration) bool {
		if slices.Contains(r.statuses, status) {
			return true
		}
		// Without a date of the next level nobody knows since when this is out of date.
		return strings.HasPrefix(status, "OutOfDate") && r.counts(status) && grace > 0 && !next.IsZero() && at.Before(next.Add(grace))
	}
	return part(l.Platform, l.Next, r.grace) && part(l.QE, l.QENext, cmp.Or(r.qe, r.grace))
}

// counts: what is out of date and has a configuration to mend needs the rest of its
// status allowed too.
func (r *Rules) counts(status string) bool {
	return status == "OutOfDate" || slices.Contains(r.statuses, strings.TrimPrefix(status, "OutOfDate"))
}

func (r *Rules) graceWords(l Level) string {
	if r.grace == 0 || l.Next.IsZero() {
		return ""
	}
	return ", or OutOfDate before " + day(l.Next.Add(r.grace))
}

func day(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.DateOnly)
}
