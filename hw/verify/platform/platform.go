package policy

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
)

// statuses are those that a policy can allow (Intel PCS API v4). Revoked is none.
var statuses = []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
	"OutOfDate", "OutOfDateConfigurationNeeded"}

const upToDate = "UpToDate"

// tcbRules are [tcb]: the platform's patch level.
type tcbRules struct {
	statuses      []string
	minDate       time.Time
	minEvaluation int64
	allow, deny   []string // advisories
	grace, qe     time.Duration
	age           time.Duration // how old collateral may be
	minSVN        []byte
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

const allAdvisories = "*"

func isAdvisory(s string) string {
	if s == allAdvisories || strings.HasPrefix(s, "INTEL-SA-") && len(s) < 32 && s == strings.ToUpper(s) {
		return ""
	}
	return `as "INTEL-SA-00615", or "*" for all`
}

func readTCB(t *tables.Table) tcbRules {
	r := tcbRules{
		statuses: t.Texts("statuses", tables.OneOf("status", statuses)), minDate: t.Time("min_date"),
		minEvaluation: t.Number("min_evaluation"), allow: t.Texts("allow", isAdvisory), deny: t.Texts("deny", isAdvisory),
		grace: t.Duration("grace"), qe: t.Duration("qe_grace"), age: t.Duration("collateral"),
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

// JudgeSVN compares TEE_TCB_SVN, which a quote has without collateral.
func (p *Policy) JudgeSVN(svn [16]byte) (found Findings) {
	if p == nil || len(p.tcb.minSVN) == 0 {
		return nil
	}
	ok := true
	for i, least := range p.tcb.minSVN {
		ok = ok && svn[i] >= least
	}
	found.Want(ok, "TEE_TCB_SVN", "at least "+hex.EncodeToString(p.tcb.minSVN), hex.EncodeToString(svn[:]))
	return found
}

// JudgeLevel holds a patch level against [tcb]: the status, or the grace that it has; then
// the date and the evaluation number; then the advisories. Without a policy it must be
// UpToDate.
func (p *Policy) JudgeLevel(l Level, at time.Time) (found Findings) {
	r := tcbRules{statuses: []string{upToDate}}
	if p != nil {
		r = p.tcb
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
func (r tcbRules) status(l Level, at time.Time) bool {
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
func (r tcbRules) counts(status string) bool {
	return status == "OutOfDate" || slices.Contains(r.statuses, strings.TrimPrefix(status, "OutOfDate"))
}

func (r tcbRules) graceWords(l Level) string {
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
