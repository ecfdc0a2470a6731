// Package platform answers: is a TD's platform as a policy wants it?
//
// It reads [tcb] of a policy (cima-policy(5)), and holds the platform's patch level, as
// Intel rates it, and what the platform's certificate says against it.
package platform

import (
	"encoding/hex"
	"fmt"
	"maps"
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
	allow, deny   []string      // advisories
	grace, qe     time.Duration // of the platform, and of its quoting enclave
	qeSaid        bool          // qe is not merely grace
	minSVN        []byte
	platform      map[string]bool // what [tcb] says of settings
	providers     []string        // PPIDs; nil for any
	age           time.Duration   // how old collateral may be; 0 for any
	platforms     []*Rules        // [[tcb.platform]]: what counts for some platforms in place of this
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

// Read reads [tcb], and its [[tcb.platform]]. age is how old collateral may be, 0 for any.
func Read(t *tables.Table, age time.Duration) *Rules {
	r := readRules(t, &Rules{statuses: []string{upToDate}, age: age})
	for _, t := range t.All("platform") {
		t.Title = "[[tcb.platform]]"
		one := readRules(t, r)
		if _, named := t.Take("provider_ids"); !named {
			t.Bad("provider_ids", "there: the platforms for which this counts in place of [tcb]")
		}
		t.Done()
		r.platforms = append(r.platforms, one)
	}
	return r
}

// readRules reads a table. What it doesn't say is as in base.
func readRules(t *tables.Table, base *Rules) *Rules {
	r := *base
	r.platforms, r.platform = nil, maps.Clone(base.platform)
	texts := func(to *[]string, key string, good func(string) string) {
		if _, there := t.Take(key); there {
			*to = t.Texts(key, good)
		}
	}
	texts(&r.statuses, "statuses", tables.OneOf("status", statuses))
	texts(&r.allow, "allow", isAdvisory)
	texts(&r.deny, "deny", isAdvisory)
	texts(&r.providers, "provider_ids", isProvider)
	if at := t.Time("min_date"); !at.IsZero() {
		r.minDate = at
	}
	if n := t.Number("min_evaluation"); n != 0 {
		r.minEvaluation = n
	}
	r.readGrace(t)
	for _, word := range settings {
		if _, there := t.Take(word.key); there {
			if r.platform == nil {
				r.platform = make(map[string]bool)
			}
			r.platform[word.key] = t.Flag(word.key)
		}
	}
	if text := t.Text("min_svn"); text != "" {
		var err error
		if r.minSVN, err = hex.DecodeString(text); err != nil || len(r.minSVN) > 16 {
			t.Bad("min_svn", "at most 16 bytes in hex: each of TEE_TCB_SVN is at least this")
		}
	}
	return &r
}

// readGrace reads for how long a part may be out of date. "0d" is none.
func (r *Rules) readGrace(t *tables.Table) {
	read := func(key string) (time.Duration, bool) {
		v, there := t.Take(key)
		if !there || v == "0d" {
			return 0, there
		}
		return t.Duration(key), true
	}
	if grace, there := read("grace"); there {
		r.grace = grace
	}
	if qe, there := read("qe_grace"); there {
		r.qe, r.qeSaid = qe, true
	} else if !r.qeSaid {
		r.qe = r.grace
	}
	if (r.grace > 0 || r.qe > 0) && slices.Contains(r.statuses, "OutOfDate") {
		t.Bad("grace", "left out where statuses has OutOfDate, which has no end")
	}
}

// For returns what counts for a platform: the first [[tcb.platform]] that names it, else
// [tcb].
func (r *Rules) For(c Certified) *Rules {
	if r == nil {
		return nil
	}
	for _, one := range r.platforms {
		if slices.Contains(one.providers, c.Provider) {
			return one
		}
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
	return part(l.Platform, l.Next, r.grace) && part(l.QE, l.QENext, r.qe)
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
