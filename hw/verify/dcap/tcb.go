package dcap

import (
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

	t := &TCBLevel{Date: levels[0].TcbDate, FMSPC: c.platform.fmspc, SVN: hexOf(q.TCBSVN[:]), Until: c.Until.UTC().Format(time.RFC3339)}
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

// worse joins the platform's status with that of a part of it.
func worse(platform, part pcs.TcbComponentStatus) pcs.TcbComponentStatus {
	switch {
	case platform == pcs.TcbComponentStatusRevoked || part == pcs.TcbComponentStatusRevoked:
		return pcs.TcbComponentStatusRevoked
	case part == pcs.TcbComponentStatusUpToDate:
		return platform
	case part != pcs.TcbComponentStatusOutOfDate:
		return part // Intel gives parts these three only; another one is reported as it is
	case strings.Contains(string(platform), "Configuration"):
		return pcs.TcbComponentStatusOutOfDateConfigurationNeeded
	}
	return pcs.TcbComponentStatusOutOfDate
}
