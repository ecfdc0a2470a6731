package verify

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// TCB is how patched the platform is, by Intel's word.
type TCB struct {
	Status     string   `json:"status"`               // "UpToDate", "SWHardeningNeeded", "OutOfDate", …: worst of platform, TDX module and quoting enclave
	Date       string   `json:"date"`                 // of the level that platform and module reach
	Advisories []string `json:"advisories,omitempty"` // "INTEL-SA-…"
	FMSPC      string   `json:"fmspc"`
	SVN        string   `json:"tee_tcb_svn"` // 16 bytes, hex
	Until      string   `json:"collateral_until"`
}

const noCollateral = "no collateral was given"

// checkCollateral gets and reads collateral. The error is the source's: that
// nothing could be had is no result.
func (a *appraisal) checkCollateral(ctx context.Context) (Step, error) {
	switch {
	case a.opts.Collateral == nil:
		return skip(noCollateral), nil
	case a.untrusted != nil:
		return skip("the quote's chain is not trusted"), nil
	}
	docs, err := gather(ctx, a.opts.Collateral, a.quote)
	if err != nil {
		return Step{}, err
	}
	at := a.opts.At
	if at.IsZero() {
		at = time.Now()
	}
	// Under the very root that vouches for the quote, which is trusted.
	if a.collateral, err = docs.read(a.quote, a.quote.Chain[2:], at); err != nil {
		a.collateral = nil
		return fail("can't be used: " + err.Error()), nil
	}
	return pass("signed under the same root, good until " + a.collateral.until.UTC().Format(time.DateOnly)), nil
}

func (a *appraisal) roots() []*x509.Certificate {
	if a.opts.TrustRoots != nil {
		return a.opts.TrustRoots
	}
	return []*x509.Certificate{IntelRoot()}
}

// tcb: platform, TDX module and quoting enclave are patched as Intel, or the
// policy, wants it.
func (a *appraisal) tcb() Step {
	var rules TCBPolicy
	if a.opts.Policy != nil && a.opts.Policy.TCB != nil {
		rules = *a.opts.Policy.TCB
	}
	svn := Comparison{"TEE_TCB_SVN", orNone(hexOf(rules.MinSVN)), hexOf(a.quote.TCBSVN[:])}
	if !atLeast(a.quote.TCBSVN[:], rules.MinSVN) {
		return fail("older than the policy's min_svn", svn)
	}
	if a.collateral == nil {
		if rules.needsCollateral() {
			return fail("the policy has rules for it, and there is no usable collateral", svn)
		}
		return skip("no usable collateral: patch level not checked")
	}
	t, err := a.collateral.level(a.quote)
	if err != nil {
		return fail(err.Error(), svn)
	}
	a.level = t
	allowed := rules.Statuses
	if allowed == nil {
		allowed = []string{string(pcs.TcbComponentStatusUpToDate)}
	}
	compared := []Comparison{svn, {"TCB status", oneOf(allowed), t.Status}, {"TCB date", orNone(rules.MinDate), t.Date}}
	words := fmt.Sprintf("%s, of %.10s", t.Status, t.Date)
	if len(t.Advisories) > 0 {
		words += ": " + strings.Join(t.Advisories, ", ")
	}
	switch {
	case t.Status == string(pcs.TcbComponentStatusRevoked) || !slices.Contains(allowed, t.Status):
		return fail(words, compared...)
	case rules.old(t.Date):
		return fail(words+", before the policy's min_date", compared...)
	case t.Status != string(pcs.TcbComponentStatusUpToDate):
		return warn(words+"; the policy allows it", compared...)
	}
	return pass(words, compared...)
}

func atLeast(got, least []byte) bool {
	for i := range least {
		if i >= len(got) || got[i] < least[i] {
			return false
		}
	}
	return true
}

// level finds the TCB level as Intel tells to (PCS API v4, Get TDX TCB Info;
// Intel's quote verification library joins the three statuses).
func (c *collateral) level(q *Quote) (*TCB, error) {
	found := slices.IndexFunc(c.tcb.TcbLevels, func(l pcs.TcbLevel) bool { return c.reaches(q, l) })
	if found < 0 {
		return nil, fmt.Errorf("no TCB level as low as this platform's (FMSPC %s) is known", c.platform.fmspc)
	}
	levels := []pcs.TcbLevel{c.tcb.TcbLevels[found]}
	if version := q.TCBSVN[1]; version > 0 {
		id := c.module(version)
		if id == nil {
			return nil, fmt.Errorf("no TDX module of version %d is known", version)
		}
		at := slices.IndexFunc(id.TcbLevels, func(l pcs.TcbLevel) bool { return uint32(q.TCBSVN[0]) >= l.Tcb.Isvsvn })
		if at < 0 {
			return nil, fmt.Errorf("no TCB level as low as this TDX module's (%d) is known", q.TCBSVN[0])
		}
		levels = append(levels, id.TcbLevels[at])
	}
	at := slices.IndexFunc(c.qe.TcbLevels, func(l pcs.TcbLevel) bool { return q.enclave.GetIsvSvn() >= l.Tcb.Isvsvn })
	if at < 0 {
		return nil, fmt.Errorf("no TCB level as low as this quoting enclave's (%d) is known", q.enclave.GetIsvSvn())
	}
	levels = append(levels, c.qe.TcbLevels[at])

	t := &TCB{Date: levels[0].TcbDate, FMSPC: c.platform.fmspc, SVN: hexOf(q.TCBSVN[:]), Until: c.until.UTC().Format(time.RFC3339)}
	status := levels[0].TcbStatus
	for i, l := range levels {
		if i > 0 {
			status = worse(status, l.TcbStatus)
		}
		if l.TcbDate < t.Date && i < len(levels)-1 {
			t.Date = l.TcbDate
		}
		t.Advisories = append(t.Advisories, l.AdvisoryIDs...)
	}
	slices.Sort(t.Advisories)
	t.Status, t.Advisories = string(status), slices.Compact(t.Advisories)
	return t, nil
}

// reaches says whether the platform is at least at that level.
func (c *collateral) reaches(q *Quote, l pcs.TcbLevel) bool {
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

// worse joins the platform's status with that of a part of it.
func worse(platform, part pcs.TcbComponentStatus) pcs.TcbComponentStatus {
	switch {
	case platform == pcs.TcbComponentStatusRevoked || part == pcs.TcbComponentStatusRevoked:
		return pcs.TcbComponentStatusRevoked
	case part == pcs.TcbComponentStatusUpToDate:
		return platform
	case part != pcs.TcbComponentStatusOutOfDate:
		return part // Intel gives parts these three only; whatever else it is, say it
	case strings.Contains(string(platform), "Configuration"):
		return pcs.TcbComponentStatusOutOfDateConfigurationNeeded
	}
	return pcs.TcbComponentStatusOutOfDate
}

// revocation: nobody took back the certificates, or gave up the TCB level.
func (a *appraisal) revocation() Step {
	switch {
	case a.collateral == nil:
		return skip("no usable collateral: revoked certificates would not be noticed")
	case len(a.collateral.revoked) > 0:
		return fail("revoked: " + strings.Join(a.collateral.revoked, "; "))
	case a.level != nil && a.level.Status == string(pcs.TcbComponentStatusRevoked):
		return fail("the platform's TCB level is revoked: its keys count for nothing")
	}
	return pass("no certificate of the chain is revoked")
}
