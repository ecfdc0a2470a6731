package verify

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/replay"
)

// An Appraiser judges many pieces of evidence under the same policy, roots and source of
// collateral, by any number of goroutines. It checks a certificate above the PCK once, and
// collateral once an hour and when it expires. Its results are those of an Appraiser that
// has just been made: dates are compared each time, and what failed is tried again.
type Appraiser struct{ opts Options }

// NewAppraiser checks the options. What they ask of one attester counts for nothing here.
func NewAppraiser(opts Options) (*Appraiser, error) {
	if opts.TrustRoots != nil && len(opts.TrustRoots) == 0 {
		return nil, errors.New("TrustRoots must hold a root, or be nil for Intel's")
	}
	if opts.Policy != nil && !opts.Policy.Read() {
		return nil, errors.New("a policy must come from policy.Parse or policy.Load")
	}
	opts.held, opts.builtIn = dcap.NewHeld(), []*x509.Certificate{dcap.IntelRoot()}
	return &Appraiser{opts}, nil
}

// options are those of one appraisal.
func (a *Appraiser) options(ctx context.Context, asked Asked) (Options, error) {
	opts := a.opts
	opts.Asked = asked
	if err := asked.check(); err != nil {
		return opts, err
	}
	return opts, ctx.Err()
}

// Appraise judges an evidence bundle, the JSON text that the daemon gives
// (cima-evidence(7)). A bundle that is bad in any way is a result, not an error:
// errors are about what is asked, about collateral that its source can't give
// (*dcap.NetworkError, *dcap.FileError), or ctx having ended.
func (a *Appraiser) Appraise(ctx context.Context, bundle []byte, asked Asked) (*Result, error) {
	opts, err := a.options(ctx, asked)
	if err != nil {
		return nil, err
	}
	r := begin(claimSteps, opts)
	ev, err := evidence.Parse(bundle)
	if err != nil {
		return r.malformed(err, evidence.Unreadable(bundle)), nil
	}
	r.add(StepFormat, pass(ev.Describe()))
	var p onPlatform
	if ev.SNP != nil {
		p, err = r.judgeSNP(ctx, ev, opts)
	} else {
		p, err = r.judgePlatform(ctx, ev.Quote, debug(ev.Quote, opts), ev.Behind(), opts)
	}
	if err != nil {
		return nil, err
	}
	c := &conclusion{Result: r, ev: ev, opts: opts, platform: p}
	c.keys, c.instance = r.judgeClaims(ev, opts)
	r.seen.Booted = booted(ev)
	if err := r.judgeValues(ev, c, opts); err != nil {
		return nil, err
	}
	c.write()
	r.Claims, r.Events = ev.Claims, shownEvents(ev)
	return r, ctx.Err()
}

// AppraiseQuote judges a quote that comes without claims, as other systems make
// it, and those of the logs behind its registers that are given: whose quote it
// is, and whether the logs are its own. The nonce that is asked must then be all of
// REPORTDATA, without the zeros at its end, and the user data nil. Without a policy the
// best verdict is Authentic. Errors are as Appraise's.
func (a *Appraiser) AppraiseQuote(ctx context.Context, files replay.Files, asked Asked) (*Result, error) {
	opts, err := a.options(ctx, asked)
	if err != nil {
		return nil, err
	}
	if opts.UserData != nil {
		return nil, errors.New("a bare quote binds no user data besides its REPORTDATA: give all of that as the nonce")
	}
	r := begin(bareSteps, opts)
	b, err := readBare(files)
	if err != nil {
		return r.malformed(err, "check that each file is of its flag's kind; a quote must be the bytes that the hardware made, or those in hex, base64 or CMW"), nil
	}
	return r.judgeBare(ctx, b, opts)
}
