// Package verify answers: is it true?
//
// It appraises evidence (RFC 9334), step by step as cima-evidence(7), APPRAISAL,
// lists the steps. Each step is a function with a named, typed result, so that a
// reader sees what was proved, by what, and what was not. It needs nothing but the
// bundle, the verifier's own nonce and the relying party's reference values
// (package policy). It runs anywhere and is never linked into cimad.
package verify

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
	"github.com/cima-project/cima/hw/verify/policy"
)

// Options of an appraisal.
type Options struct {
	// Nonce is what the verifier sent, 8 to 64 bytes. Without it freshness
	// is not checked, and nothing is trusted.
	Nonce []byte

	// NonceMade is when the verifier made the nonce, for [freshness]; the zero time
	// means that nobody says.
	NonceMade time.Time

	// UserData is what the claims must carry, up to 4 KiB: typically a hash
	// of the channel's key. nil means that it is not checked; a pointer to no
	// bytes means that there must be none.
	UserData *[]byte

	// TrustRoots are the roots that a quote's chain may end in; nil means
	// Intel's SGX Root CA, and only that.
	TrustRoots []*x509.Certificate

	// Policy are the reference values, by policy.Parse or Load; nil means that there
	// are none.
	Policy *policy.Policy

	// Verifier names the program that appraises, and its version, in the result.
	Verifier string

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
	r := begin(claimSteps, opts)
	ev, err := evidence.Parse(bundle)
	if err != nil {
		return r.malformed(err, unreadable(bundle)), nil
	}
	r.add(StepFormat, format(ev))
	p, err := r.judgePlatform(ctx, ev.Quote, debug(ev.Quote, opts), opts)
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

// format is the result of the step format for evidence that could be read.
func format(ev *evidence.Bundle) Step {
	booted := 0
	if ev.BootLog != nil {
		booted = ev.BootLog.Len()
	}
	return pass(fmt.Sprintf("quote version %d, boot log of %d events, runtime log of %d events", ev.Quote.Version, booted, len(ev.Log)))
}

// shownEvents returns the events for the result.
func shownEvents(ev *evidence.Bundle) []Event {
	var shown []Event
	for i, e := range ev.Log {
		s := Event{Position: i, Digest: e.Digest, Judged: i < ev.Claims.Log.Count}
		if e.Event != nil {
			s.Operation, s.Container, s.Measured = e.Event.Operation, e.Event.Container, e.Event.Measured
		}
		shown = append(shown, s)
	}
	return shown
}

// judgeClaims runs the steps that bind claims and logs to the quote. It returns
// the agent's keys, and what the log shows of the container.
func (r *Result) judgeClaims(ev *evidence.Bundle, opts Options) (agentKeys, *instances.Instance) {
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

// judgeValues holds authentic evidence against the reference values. Its errors say that
// this takes too much: then nothing is known.
func (r *Result) judgeValues(ev *evidence.Bundle, c *conclusion, opts Options) error {
	if r.Verdict == NotAuthentic {
		r.skipRest(notAuthentic)
		return nil
	}
	r.add(StepPolicy, policyCounts(digests(ev, c.instance), opts))
	r.add(StepTD, tdValues(ev.Quote, opts))
	var steps [4]Step
	var err error
	if steps[0], c.boots, err = bootValues(r.seen.Booted, opts); err != nil {
		return err
	}
	if steps[1], c.caller, err = callerValues(ev, c.instance, c.boots, opts); err != nil {
		return err
	}
	steps[2] = power(ev, opts)
	if steps[3], err = events(ev, c.instance, opts); err != nil {
		return err
	}
	for i, name := range []string{StepBootValues, StepCallerValues, StepPower, StepEvents} {
		r.add(name, steps[i])
	}
	if len(c.boots) > 0 {
		r.Boot = policy.BootOf(c.caller.known, c.boots)
	}
	r.Container = c.caller.known
	r.gaps = c.gaps()
	r.add(StepNotProved, r.notProved(opts))
	return nil
}

func (o *Options) check() error {
	if n := len(o.Nonce); n != 0 && (n < 8 || n > 64) {
		return fmt.Errorf("a nonce must have 8 to 64 bytes, not %d", n)
	}
	if len(o.Nonce) > 0 && bytes.Count(o.Nonce, []byte{0}) == len(o.Nonce) {
		return errors.New("a nonce must not be all zeros: a quote that was made for nobody has them too")
	}
	if o.TrustRoots != nil && len(o.TrustRoots) == 0 {
		return errors.New("TrustRoots must hold a root, or be nil for Intel's")
	}
	if o.Policy != nil && !o.Policy.Read() {
		return errors.New("a policy must come from policy.Parse or policy.Load")
	}
	return nil
}
