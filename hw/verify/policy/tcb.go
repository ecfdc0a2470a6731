package policy

import (
	"encoding/hex"
	"fmt"
	"time"
)

// TCB is about the platform's patch level. With rules that need collateral,
// evidence without collateral is not trusted. Without any rule, but with
// collateral, the status must be UpToDate.
type TCB struct {
	Statuses []string `toml:"statuses"` // those allowed; default: UpToDate. Revoked is never allowed
	MinDate  string   `toml:"min_date"` // of the TCB level, as 2025-08-13 or RFC 3339
	MinSVN   hexBytes `toml:"min_svn"`  // each of TEE_TCB_SVN's 16 bytes is at least this, in hex
}

// NeedsCollateral reports whether a rule can be checked with collateral alone.
func (p *TCB) NeedsCollateral() bool { return p.Statuses != nil || p.MinDate != "" }

// hexBytes are bytes in hex.
type hexBytes []byte

// UnmarshalText reads hex.
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// tcbStatuses are those that a policy can allow (Intel PCS API v4).
var tcbStatuses = []string{"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
	"OutOfDate", "OutOfDateConfigurationNeeded"}

// statuses are those that the policy allows, none where it has no rule.
func (p *Policy) statuses() []string {
	if p.TCB == nil {
		return nil
	}
	return p.TCB.Statuses
}

func (p *TCB) check() error {
	if len(p.MinSVN) > 16 {
		return fmt.Errorf("tcb.min_svn must have at most 16 bytes, not %d", len(p.MinSVN))
	}
	if p.MinDate == "" {
		return nil
	}
	if _, err := date(p.MinDate); err != nil {
		return fmt.Errorf("tcb.min_date: %w", err)
	}
	return nil
}

// date reads a day, or RFC 3339.
func date(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q must be a date like 2025-08-13, or RFC 3339", text)
}

// Old reports whether a TCB level's date is before MinDate, or can't be read.
func (p *TCB) Old(of string) bool {
	if p.MinDate == "" {
		return false
	}
	least, err1 := date(p.MinDate)
	got, err2 := date(of)
	return err1 != nil || err2 != nil || got.Before(least)
}
