package dcap

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// Statuses that a caller must know: the best, and the one to trust never. Others
// are as PCS API v4 names them.
const (
	StatusUpToDate = string(pcs.TcbComponentStatusUpToDate)
	StatusRevoked  = string(pcs.TcbComponentStatusRevoked)
)

// TCBLevel is the patch level of a platform, as Intel rates it (PCS API v4, TCB info).
type TCBLevel struct {
	Status     string   `json:"status"`               // "UpToDate", "SWHardeningNeeded", "OutOfDate", …: worst of platform, TDX module and quoting enclave
	Date       string   `json:"date"`                 // RFC 3339: of the older of the levels that platform and module reach
	Advisories []string `json:"advisories,omitempty"` // "INTEL-SA-…"
	FMSPC      string   `json:"fmspc"`                // kind of platform: 12 hex digits
	SVN        string   `json:"tee_tcb_svn"`          // 16 bytes, hex
	Until      string   `json:"collateral_until"`     // RFC 3339

	Evaluation int       `json:"evaluation"`        // tcbEvaluationDataNumber, the lesser of both documents
	Issued     time.Time `json:"collateral_issued"` // when the older document was issued
	Parts      [2]Part   `json:"-"`                 // platform with TDX module, and quoting enclave
}

// Part is the state of a part of a platform.
type Part struct {
	Status string
	Next   time.Time // date of the oldest level above the one that an out-of-date part reaches; zero where none is
}

// Level finds the TCB level of the platform behind a quote by Intel's algorithm
// (PCS API v4, Get TDX TCB Info), and joins the statuses of platform, TDX module
// and quoting enclave as Intel's quote verification library does. It fails where
// one of them is below all known levels.
func (c *Collateral) Level(q *Quote) (*TCBLevel, error) {
	found := slices.IndexFunc(c.tcb.TcbLevels, func(l pcs.TcbLevel) bool { return c.reaches(q, l) })
	if found < 0 {
		return nil, fmt.Errorf("no TCB level as low as this platform's (FMSPC %s) is known", c.platform.fmspc)
	}
	levels := []reached{{c.tcb.TcbLevels, found}}
	if version := q.TCBSVN[1]; version > 0 {
		id := c.module(version)
		if id == nil {
			return nil, fmt.Errorf("no TDX module of version %d is known", version)
		}
		at := slices.IndexFunc(id.TcbLevels, func(l pcs.TcbLevel) bool { return uint32(q.TCBSVN[0]) >= l.Tcb.Isvsvn })
		if at < 0 {
			return nil, fmt.Errorf("no TCB level as low as this TDX module's (%d) is known", q.TCBSVN[0])
		}
		levels = append(levels, reached{id.TcbLevels, at})
	}
	at := slices.IndexFunc(c.qe.TcbLevels, func(l pcs.TcbLevel) bool { return q.enclave.GetIsvSvn() >= l.Tcb.Isvsvn })
	if at < 0 {
		return nil, fmt.Errorf("no TCB level as low as this quoting enclave's (%d) is known", q.enclave.GetIsvSvn())
	}
	levels = append(levels, reached{c.qe.TcbLevels, at})

	return c.join(q, levels), nil
}

// sortLevels puts the levels of a platform in the order in which Intel's quote verification
// library tries them, whatever theirs in the document: the highest SGX components first,
// then the highest PCE SVN, then the highest TDX components.
func sortLevels(levels []pcs.TcbLevel) {
	slices.SortStableFunc(levels, func(a, b pcs.TcbLevel) int {
		return cmp.Or(bytes.Compare(svnsOf(b.Tcb.SgxTcbcomponents), svnsOf(a.Tcb.SgxTcbcomponents)),
			cmp.Compare(b.Tcb.Pcesvn, a.Tcb.Pcesvn),
			bytes.Compare(svnsOf(b.Tcb.TdxTcbcomponents), svnsOf(a.Tcb.TdxTcbcomponents)))
	})
}

// reached is a level among those of its part, of which the newest is the first.
type reached struct {
	all []pcs.TcbLevel
	at  int
}

// next is the date of the level above; zero where there is none, or it can't be read.
func (r reached) next() time.Time {
	if r.at == 0 || !strings.HasPrefix(string(r.all[r.at].TcbStatus), "OutOfDate") {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, r.all[r.at-1].TcbDate)
	if err != nil {
		return time.Time{}
	}
	return t
}

// join makes one level of those of platform, TDX module and, the last, quoting enclave.
func (c *Collateral) join(q *Quote, levels []reached) *TCBLevel {
	t := &TCBLevel{
		FMSPC: c.platform.fmspc, SVN: hexOf(q.TCBSVN[:]), Until: c.Until.UTC().Format(time.RFC3339),
		Evaluation: min(c.tcb.TcbEvaluationDataNumber, c.qe.TcbEvaluationDataNumber), Issued: c.tcb.IssueDate,
	}
	if c.qe.IssueDate.Before(t.Issued) {
		t.Issued = c.qe.IssueDate
	}
	for i, r := range levels {
		l := r.all[r.at]
		part := &t.Parts[0]
		if i == len(levels)-1 {
			part = &t.Parts[1]
		} else if t.Date == "" || l.TcbDate < t.Date {
			t.Date = l.TcbDate
		}
		part.Status = worse(part.Status, string(l.TcbStatus))
		if next := r.next(); part.Next.IsZero() || !next.IsZero() && next.Before(part.Next) {
			part.Next = next
		}
		t.Advisories = append(t.Advisories, l.AdvisoryIDs...)
	}
	slices.Sort(t.Advisories)
	t.Status, t.Advisories = worse(t.Parts[0].Status, t.Parts[1].Status), slices.Compact(t.Advisories)
	return t
}

// reaches reports whether the platform is at least at that level.
func (c *Collateral) reaches(q *Quote, l pcs.TcbLevel) bool {
	if len(l.Tcb.SgxTcbcomponents) != len(c.platform.cpuSVN) || len(l.Tcb.TdxTcbcomponents) != len(q.TCBSVN) || c.platform.pceSVN < l.Tcb.Pcesvn {
		return false
	}
	for i, svn := range c.platform.cpuSVN {
		if svn < l.Tcb.SgxTcbcomponents[i].Svn {
			return false
		}
	}
	from := 0
	if q.TCBSVN[1] > 0 { // the first two are then the module's, judged by its identity
		from = 2
	}
	for i := from; i < len(q.TCBSVN); i++ {
		if q.TCBSVN[i] < l.Tcb.TdxTcbcomponents[i].Svn {
			return false
		}
	}
	return true
}

// Behind says how far the platform is behind the newest level that is UpToDate: each
// security version number that is below it.
func (c *Collateral) Behind(q *Quote) (found []Finding) {
	below := func(what string, want, got []byte) {
		if len(want) == len(got) && anyBelow(got, want) {
			found = append(found, Finding{What: what + ", UpToDate", Want: hexOf(want), Got: hexOf(got)})
		}
	}
	number := func(what string, want, got uint32) {
		if got < want {
			found = append(found, Finding{What: what + ", UpToDate", Want: fmt.Sprint(want), Got: fmt.Sprint(got)})
		}
	}
	if l, ok := newest(c.tcb.TcbLevels); ok {
		tdx := svnsOf(l.Tcb.TdxTcbcomponents)
		if q.TCBSVN[1] > 0 && len(tdx) == len(q.TCBSVN) { // the first two are then the module's
			copy(tdx, q.TCBSVN[:2])
		}
		below("TEE_TCB_SVN", tdx, q.TCBSVN[:])
		below("CPUSVN", svnsOf(l.Tcb.SgxTcbcomponents), c.platform.cpuSVN)
		number("PCESVN", uint32(l.Tcb.Pcesvn), uint32(c.platform.pceSVN))
	}
	if id := c.module(q.TCBSVN[1]); q.TCBSVN[1] > 0 && id != nil {
		if l, ok := newest(id.TcbLevels); ok {
			number("ISVSVN of the TDX module", l.Tcb.Isvsvn, uint32(q.TCBSVN[0]))
		}
	}
	if l, ok := newest(c.qe.TcbLevels); ok {
		number("ISVSVN of the quoting enclave", l.Tcb.Isvsvn, q.enclave.GetIsvSvn())
	}
	return found
}

// newest is the first level that is UpToDate.
func newest(levels []pcs.TcbLevel) (pcs.TcbLevel, bool) {
	i := slices.IndexFunc(levels, func(l pcs.TcbLevel) bool { return string(l.TcbStatus) == StatusUpToDate })
	if i < 0 {
		return pcs.TcbLevel{}, false
	}
	return levels[i], true
}

func svnsOf(components []pcs.TcbComponent) (svns []byte) {
	for _, c := range components {
		svns = append(svns, c.Svn)
	}
	return svns
}

func anyBelow(got, want []byte) bool {
	for i := range got {
		if got[i] < want[i] {
			return true
		}
	}
	return false
}

// worse joins the statuses of two parts, so that none hides what the other says. A status
// that is unknown here is the worst but Revoked, and reported as it is.
func worse(a, b string) string {
	for _, s := range []string{a, b} {
		if s == StatusRevoked {
			return s
		}
	}
	outOfDate, configuration, hardening := false, false, false
	for _, s := range []string{a, b} {
		switch s {
		case "", StatusUpToDate:
		case "SWHardeningNeeded":
			hardening = true
		case "ConfigurationNeeded":
			configuration = true
		case "ConfigurationAndSWHardeningNeeded":
			configuration, hardening = true, true
		case "OutOfDate":
			outOfDate = true
		case "OutOfDateConfigurationNeeded":
			outOfDate, configuration = true, true
		default:
			return s
		}
	}
	switch {
	case outOfDate && configuration:
		return "OutOfDateConfigurationNeeded"
	case outOfDate:
		return "OutOfDate"
	case configuration && hardening:
		return "ConfigurationAndSWHardeningNeeded"
	case configuration:
		return "ConfigurationNeeded"
	case hardening:
		return "SWHardeningNeeded"
	}
	return StatusUpToDate
}
