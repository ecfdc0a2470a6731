package verify

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/platform"
)

// onPlatform is what the steps on quote and platform found out.
type onPlatform struct {
	untrusted  error            // why the quote's signature or chain is not trusted
	hint       string           // what to do about that
	collateral *dcap.Collateral // nil where there is none that can be used
	level      *dcap.TCBLevel   // nil where collateral gives none
}

// judgePlatform runs the steps on quote and platform; debug is one's result, and
// behind is why what the quote vouches for does not hold. The error is the collateral source's, or ctx's.
func (r *Result) judgePlatform(ctx context.Context, q *dcap.Quote, debug Step, behind error, opts Options) (p onPlatform, err error) {
	var s Step
	if s, p.untrusted = quoteSignature(q, opts); p.untrusted == nil && behind != nil {
		s, p.untrusted = fail(behind.Error()), behind
	}
	r.add(StepQuote, s)
	if p.untrusted == nil {
		r.Root = describeRoot(opts.rootOf(q), opts)
	} else {
		var other *dcap.UntrustedRootError
		var root *x509.Certificate
		if errors.As(p.untrusted, &other) {
			root = other.Root
		}
		p.hint = quoteHint(root, outOfDate(q, opts.at()))
	}
	r.add(StepDebug, debug)
	if s, p.collateral, err = checkCollateral(ctx, q, p.untrusted, opts); err != nil {
		return p, err
	}
	r.add(StepCollateral, s)
	r.add(StepEnclave, enclave(q, p.collateral, p.untrusted))
	s, p.level = tcb(q, p.collateral, opts)
	r.add(StepTCB, s)
	r.add(StepRevocation, revocation(p.collateral, p.level))
	registers := Registers{q.Registers.MRTD, q.Registers.RTMR}
	r.Registers, r.TCB, r.seen.TD = &registers, p.level, tdOf(q)
	return p, ctx.Err()
}

// quoteSignature: the TD's report is signed by a key that a quoting enclave
// vouches for, that key by a platform key, and so on up to a trusted root.
func quoteSignature(q *dcap.Quote, opts Options) (s Step, untrusted error) {
	if err := opts.held.Verify(q, opts.roots(), opts.At); err != nil {
		return fail(err.Error()), err
	}
	sum := dcap.Fingerprint(opts.rootOf(q))
	return pass("signed, and the chain ends in "+dcap.RootName(q.Root()), Comparison{"root, SHA-256", sum, sum}), nil
}

// rootOf is the trusted root that vouches for the quote. The quote carries its own copy,
// whose bytes may differ: everybody can write an ECDSA signature in a second form.
func (o *Options) rootOf(q *dcap.Quote) *x509.Certificate {
	return cmp.Or(q.TrustedRoot(o.roots(), o.At), q.Root())
}

func simulated(root *x509.Certificate) bool {
	return strings.Contains(root.Subject.String(), "NOT HARDWARE")
}

func (o *Options) roots() []*x509.Certificate {
	if o.TrustRoots != nil {
		return o.TrustRoots
	}
	return o.builtIn
}

// at is the time for which the appraisal judges.
func (o *Options) at() time.Time {
	if o.At.IsZero() {
		return time.Now()
	}
	return o.At
}

// checkCollateral gets collateral, and reads it. That a source gives nothing is
// no result, but an error.
func checkCollateral(ctx context.Context, q *dcap.Quote, untrusted error, opts Options) (Step, *dcap.Collateral, error) {
	switch {
	case opts.Collateral == nil:
		return skip("no collateral was given"), nil, nil
	case untrusted != nil:
		return skip("the quote's chain is not trusted"), nil, nil
	}
	// The root that vouches for the quote must vouch for the collateral too.
	c, err, unusable := opts.held.Collateral(ctx, opts.Collateral, q, opts.at())
	if err != nil {
		return Step{}, nil, err
	}
	if unusable != nil {
		return fail("can't be used: " + unusable.Error()), nil, nil
	}
	return pass("signed under the same root, good until " + c.Until.UTC().Format(time.DateOnly)), c, nil
}

// enclave: the quoting enclave and the TDX module are Intel's. Without
// collateral, Intel's own are known all the same.
func enclave(q *dcap.Quote, c *dcap.Collateral, untrusted error) Step {
	if c == nil && untrusted != nil {
		return skip("the quote's chain is not trusted")
	}
	if c == nil {
		found, ok := q.CheckEnclave()
		if !ok {
			return skip("no usable collateral, and the root is not Intel's: quoting enclave and TDX module not checked")
		}
		return intels(found, "quoting enclave and TDX module are signed by Intel; no usable collateral: how old they are was not checked")
	}
	found, ok := c.CheckEnclave(q)
	if !ok {
		return fail(fmt.Sprintf("Intel knows no TDX module of version %d", q.TCBSVN[1]))
	}
	return intels(found, "quoting enclave and TDX module are Intel's")
}

func intels(found []dcap.Finding, fine string) Step {
	var f findings
	for _, one := range found {
		f.want(one.OK, one.What, one.Want, one.Got)
	}
	if len(f.wrong) > 0 {
		return fail("not Intel's: "+strings.Join(f.wrong, "; "), f.compared...)
	}
	return pass(fine, f.compared...)
}

// tcb: platform, TDX module and quoting enclave are patched as Intel, or the
// policy, wants it.
func tcb(q *dcap.Quote, c *dcap.Collateral, opts Options) (Step, *dcap.TCBLevel) {
	var f findings
	f.compared = []Comparison{{"TEE_TCB_SVN", hex.EncodeToString(q.TCBSVN[:]), hex.EncodeToString(q.TCBSVN[:])}}
	said := certified(q)
	rules := opts.Policy.Platform().For(said)
	f.add(rules.JudgeSVN(q.SVNs()...))
	if len(f.wrong) > 0 {
		return fail("older than the policy's min_svn", f.compared[1:]...), nil
	}
	found, _ := rules.JudgePlatform(said)
	if f.add(found); len(f.wrong) > 0 {
		return f.step(""), nil
	}
	if c == nil {
		return skip("no usable collateral: patch level not checked"), nil
	}
	level, err := c.Level(q)
	if err != nil {
		return fail(err.Error(), f.compared...), nil
	}
	step := judgeLevel(&f, level, rules, opts)
	for _, one := range c.Behind(q) { // people ask how far
		step.Compared = append(step.Compared, Comparison{one.What, one.Want, one.Got})
	}
	return step, level
}

// certified is what the PCK certificate says of the platform; nothing where it can't be
// read.
func certified(q *dcap.Quote) platform.Certified {
	c, err := q.Certified()
	if err != nil {
		return platform.Certified{}
	}
	return platform.Certified{Provider: c.Provider, Words: c.Settings}
}

// judgeLevel holds a patch level against the rules.
func judgeLevel(f *findings, t *dcap.TCBLevel, rules *platform.Rules, opts Options) Step {
	date, _ := time.Parse(time.RFC3339, t.Date) // a date that can't be read is before any other
	f.add(rules.JudgeLevel(platform.Level{
		Status: t.Status, Platform: t.Parts[0].Status, QE: t.Parts[1].Status, Date: date, Next: t.Parts[0].Next, QENext: t.Parts[1].Next,
		Advisories: t.Advisories, Evaluation: int64(t.Evaluation), Issued: t.Issued,
	}, opts.at()))
	words := fmt.Sprintf("%s, of %.10s", t.Status, t.Date)
	if len(t.Advisories) > 0 {
		words += ": " + strings.Join(t.Advisories, ", ")
	}
	switch {
	case t.Status == dcap.StatusRevoked:
		return fail(words, f.compared...)
	case len(f.wrong) > 0:
		return fail(words+"; "+strings.Join(f.wrong, "; "), f.compared...)
	case t.Status != dcap.StatusUpToDate:
		return warn(words+"; the policy allows it", f.compared...)
	}
	return pass(words, f.compared...)
}

// revocation: no certificate is revoked, nor is the TCB level.
func revocation(c *dcap.Collateral, level *dcap.TCBLevel) Step {
	switch {
	case c == nil:
		return skip("no usable collateral: revoked certificates would not be noticed")
	case len(c.Revoked) > 0:
		return fail("revoked: " + strings.Join(c.Revoked, "; "))
	case level != nil && level.Status == dcap.StatusRevoked:
		return fail("the platform's TCB level is revoked: its keys count for nothing")
	}
	return pass("no certificate of the chain is revoked")
}
