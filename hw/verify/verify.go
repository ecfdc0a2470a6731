// Package verify answers: is it true?
//
// It appraises evidence (RFC 9334), step by step as cima-evidence(7), APPRAISAL,
// lists the steps. Each step is a function with a named, typed result, so that a
// reader sees what was proved, by what, and what was not. It needs nothing but the
// bundle, the verifier's own nonce and the relying party's reference values
// (package policy). It runs anywhere and is never linked into cimad.
package verify

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
)

// Options of an appraisal.
type Options struct {
	// Nonce is what the verifier sent, 8 to 64 bytes. Without it freshness
	// is not checked, and nothing is trusted.
	Nonce []byte

	// UserData is what the claims must carry, up to 4 KiB: typically a hash
	// of the channel's key. nil means that it is not checked; a pointer to no
	// bytes means that there must be none.
	UserData *[]byte

	// TrustRoots are the roots that a quote's chain may end in; nil means
	// Intel's SGX Root CA, and only that.
	TrustRoots []*x509.Certificate

	// Policy are the reference values; nil means that there are none. One that
	// policy.Parse would refuse is an error.
	Policy *policy.Policy

	// Collateral gives the documents on the platform's patch level; nil means
	// that this is not checked. Appraise returns errors of this source.
	Collateral dcap.Source

	// At is the time for which certificates and collateral are judged; the
	// zero time means now.
	At time.Time
}

// Appraise judges an evidence bundle, the JSON text that the daemon gives
// (cima-evidence(7)). A bundle that is bad in any way is a result, not an error:
// errors are about the options, about collateral that its source can't give
// (*dcap.NetworkError, *dcap.FileError), or ctx having ended.
func Appraise(ctx context.Context, bundle []byte, opts Options) (*Result, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := begin(claimSteps)
	ev, err := parse(bundle)
	if err != nil {
		return r.malformed(err, unreadable(bundle)), nil
	}
	r.add(StepFormat, ev.format())
	p, err := r.judgePlatform(ctx, ev.quote, debug(ev.quote, opts), opts)
	if err != nil {
		return nil, err
	}
	c := &conclusion{Result: r, ev: ev, opts: opts, platform: p}
	c.keys, c.instance = r.judgeClaims(ev, opts)
	r.seen.Booted = ev.booted()
	c.boot = r.judgeValues(ev, c.keys, c.instance, opts)
	c.write()
	r.Claims, r.Events = ev.claims, ev.shown()
	return r, ctx.Err()
}

// judgeClaims runs the steps that bind claims and logs to the quote. It returns
// the agent's keys, and what the log shows of the container.
func (r *Result) judgeClaims(ev *evidence, opts Options) (agentKeys, *instance) {
	signed, keys := agent(ev)
	asked, in := caller(ev)
	r.add(StepShared, shared(ev))
	r.add(StepReportData, boundClaims(ev))
	r.add(StepAgent, signed)
	r.add(StepNonce, nonce(ev, opts))
	r.add(StepBootLog, bootLog(ev))
	r.add(StepRuntimeLog, runtimeLog(ev))
	r.add(StepClaims, logClaims(ev))
	r.add(StepCaller, asked)
	r.add(StepUserData, userData(ev, opts))
	return keys, in
}

// notAuthentic is why no reference value is looked at.
const notAuthentic = "the evidence is not authentic"

// judgeValues holds authentic evidence against the reference values. It returns
// the name of the boot that fits.
func (r *Result) judgeValues(ev *evidence, keys agentKeys, in *instance, opts Options) (boot string) {
	if r.Verdict == NotAuthentic {
		r.skipRest(notAuthentic)
		return ""
	}
	s, boot := bootValues(r.seen.Booted, opts)
	r.add(StepBootValues, s)
	r.add(StepCallerValues, callerValues(ev, in, opts))
	r.add(StepPower, power(ev, opts))
	r.add(StepEvents, events(ev, keys, in, opts))
	return boot
}

func (o *Options) check() error {
	if n := len(o.Nonce); n != 0 && (n < 8 || n > 64) {
		return fmt.Errorf("a nonce must have 8 to 64 bytes, not %d", n)
	}
	if o.TrustRoots != nil && len(o.TrustRoots) == 0 {
		return errors.New("TrustRoots must hold a root, or be nil for Intel's")
	}
	if o.Policy == nil {
		return nil
	}
	if err := o.Policy.Check(); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
}
