// Package verify answers: is it true?
//
// It appraises evidence (RFC 9334): each step of DESIGN section 6 is a
// function of its own with a named, typed result, so that a reader sees what
// was proved, by what, and what was not. It needs nothing but the bundle, the
// verifier's own nonce and the relying party's reference values; it runs
// anywhere and is never linked into cimad.
package verify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Values of claims.log.anchor.
const (
	anchorRTMR3      = "rtmr3"
	anchorReportData = "report-data"
)

// Options of an appraisal.
type Options struct {
	// Nonce is what the verifier sent, 8 to 64 bytes. Without it freshness
	// is not checked, and nothing is trusted.
	Nonce []byte

	// UserData is what the claims must carry: typically a hash of the
	// channel's key. nil means that nobody looks; a pointer to no bytes
	// means that there must be none.
	UserData *[]byte

	// TrustRoots are the roots that a quote's chain may end in; nil means
	// Intel's SGX Root CA, and only that.
	TrustRoots []*x509.Certificate

	// Policy are the reference values; nil means that there are none. One that
	// ParsePolicy would refuse is an error.
	Policy *Policy

	// Collateral says how the platform stands; nil: nobody looks. Errors of
	// Appraise may be its own.
	Collateral CollateralSource

	// At is the time for which certificates and collateral are judged; zero
	// means now.
	At time.Time
}

// Appraise judges an evidence bundle. A bundle that is bad in any way is a
// result, not an error; errors are about the options, or ctx having ended.
func Appraise(ctx context.Context, bundle []byte, opts Options) (*Result, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	return appraise(ctx, bundle, opts)
}

func (o *Options) check() error {
	if n := len(o.Nonce); n != 0 && (n < 8 || n > 64) {
		return fmt.Errorf("a nonce has 8 to 64 bytes, not %d", n)
	}
	if o.TrustRoots != nil && len(o.TrustRoots) == 0 {
		return errors.New("no trust root is given; leave it out for Intel's")
	}
	if o.Policy == nil {
		return nil
	}
	if err := o.Policy.check(); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
}
