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
	"github.com/cima-project/cima/hw/verify/named"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/snp"
)

// Options of an appraisal.
type Options struct {
	Asked

	// TrustRoots are the roots that a quote's chain may end in; nil means
	// Intel's SGX Root CA, for TDs, and AMD's, for SNP guests.
	TrustRoots []*x509.Certificate

	// Policy are the reference values, by policy.Parse or Load; nil means that there
	// are none.
	Policy *policy.Policy

	// Verifier names the program that appraises, and its version, in the result.
	Verifier string

	// Collateral gives the documents on the platform's patch level; nil means
	// that this is not checked. Appraisals return errors of this source.
	Collateral dcap.Source

	// AMD gives the revocation lists for SNP guests, and the certificate of a report that came
	// without one; nil means that revocation is not checked, and that such a report is not
	// authentic. Appraisals return errors of this source.
	AMD snp.Source

	// At is the time for which certificates and collateral are judged; the
	// zero time means now.
	At time.Time

	held    *dcap.Held          // of the appraiser
	builtIn []*x509.Certificate // Intel's root
}

// Asked is what the verifier asked of one attester.
type Asked struct {
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
}

// Appraise judges one evidence bundle, as an Appraiser that is made for it.
func Appraise(ctx context.Context, bundle []byte, opts Options) (*Result, error) {
	a, err := NewAppraiser(opts)
	if err != nil {
		return nil, err
	}
	return a.Appraise(ctx, bundle, opts.Asked)
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
func (r *Result) judgeClaims(ev *evidence.Bundle, opts Options) (evidence.Keys, *instances.Instance) {
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
	r.add(StepPolicy, policyCounts(named.Of(ev, r.seen.Booted, c.instance), opts))
	if ev.SNP != nil {
		r.add(StepTD, snpValues(ev.SNP, opts))
	} else {
		r.add(StepTD, tdValues(ev.Quote, opts))
	}
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

// check checks what is asked.
func (a *Asked) check() error {
	if n := len(a.Nonce); n != 0 && (n < 8 || n > 64) {
		return fmt.Errorf("a nonce must have 8 to 64 bytes, not %d", n)
	}
	if len(a.Nonce) > 0 && bytes.Count(a.Nonce, []byte{0}) == len(a.Nonce) {
		return errors.New("a nonce must not be all zeros: a quote that was made for nobody has them too")
	}
	return nil
}
