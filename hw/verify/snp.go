package verify

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/hw/verify/snp"
)

// judgeSNP is as judgePlatform, of an SNP guest.
func (r *Result) judgeSNP(ctx context.Context, ev *evidence.Bundle, opts Options) (p onPlatform, err error) {
	a := ev.SNP
	roots := opts.TrustRoots
	if roots == nil {
		roots = snp.AMDRoots()
	}
	chain, untrusted, err := a.Vouched(ctx, opts.AMD, roots, opts.At)
	if err != nil {
		return p, err
	}
	untrusted = cmp.Or(untrusted, ev.Behind())
	p.untrusted = untrusted
	if untrusted != nil {
		r.add(StepQuote, fail(untrusted.Error()))
		p.hint = cmp.Or(snp.Advice(untrusted), quoteHint(snp.RootOf(untrusted), a.OutOfDate(opts.at())))
	} else {
		sum := dcap.Fingerprint(chain.Root)
		r.add(StepQuote, pass("signed, and the chain ends in "+dcap.RootName(chain.Root), Comparison{"root, SHA-256", sum, sum}))
		r.Root = describeRoot(chain.Root, opts)
	}
	r.add(StepDebug, snpOpen(a, opts))
	revoked, err := r.snpRevocations(ctx, chain, untrusted, opts)
	if err != nil {
		return p, err
	}
	if untrusted == nil {
		r.add(StepEnclave, pass("the SNP firmware signs by itself; its key is of the TCB and the chip that the report names"))
		r.add(StepTCB, snpLevel(a, chain.Line, opts))
	} else {
		r.add(StepEnclave, skip("the report's chain is not trusted"))
		r.add(StepTCB, skip("the report's chain is not trusted"))
	}
	r.add(StepRevocation, revoked)
	r.Guest = guest.Describe(a.Report, chain.Line)
	r.seen.SNP, r.seen.Line = a, chain.Line
	return p, ctx.Err()
}

// snpOpen: the guest's host can't read or write its memory, and no migration agent can.
func snpOpen(a *snp.Attestation, opts Options) Step {
	found, open := opts.Policy.Guest().JudgeOpen(a.Report)
	var f findings
	f.add(found)
	switch words := strings.Join(open, "; "); {
	case len(f.wrong) > 0:
		return fail(words, f.compared...)
	case len(open) > 0:
		return warn(words+"; the policy allows it", f.compared...)
	}
	return pass("the guest is not under debug, and can't be migrated", f.compared...)
}

// snpRevocations adds the step collateral, and returns the step revocation. The error is
// the source's, or ctx's.
func (r *Result) snpRevocations(ctx context.Context, chain snp.Chain, untrusted error, opts Options) (Step, error) {
	const unnoticed = "no usable revocation list: revoked certificates would not be noticed"
	switch {
	case opts.AMD == nil:
		r.add(StepCollateral, skip("no revocation list of AMD's was given"))
		return skip(unnoticed), nil
	case untrusted != nil:
		r.add(StepCollateral, skip("the report's chain is not trusted"))
		return skip(unnoticed), nil
	}
	der, err := opts.AMD.List(ctx, chain.Line, chain.VLEK)
	if err != nil {
		return Step{}, err
	}
	revoked, list, err := chain.Revocations(der, opts.At)
	if err != nil {
		r.add(StepCollateral, fail("can't be used: "+err.Error()))
		return skip(unnoticed), nil
	}
	var f findings
	f.add(opts.Policy.Guest().JudgeList(list.Issued, opts.at()))
	r.add(StepCollateral, f.step("signed by the same root, good until "+list.Until.UTC().Format(time.DateOnly)))
	if len(revoked) > 0 {
		return fail("revoked: " + strings.Join(revoked, "; ")), nil
	}
	return pass("no certificate of the chain is revoked"), nil
}

// snpLevel: the firmware is as new as the policy wants it. AMD signs no list of what is old.
func snpLevel(a *snp.Attestation, line snp.Line, opts Options) Step {
	found, asked := opts.Policy.Guest().JudgeLevel(a.Report, line)
	if !asked {
		return skip("the policy names no minimum of the TCB: " + a.ReportedTCB.Words(line))
	}
	var f findings
	f.add(found)
	return f.step("at least the policy's minimum: " + a.ReportedTCB.Words(line))
}

// snpValues: the guest's policy, its host's settings and its signers are as the policy says.
// Without one, the usual ones are told of.
func snpValues(a *snp.Attestation, opts Options) Step {
	var f findings
	f.add(opts.Policy.Guest().Judge(a))
	s := f.step("policy and configuration of the guest are as expected")
	if opts.Policy == nil && s.Outcome == Fail {
		return warn(strings.Join(f.wrong, "; "), f.compared...)
	}
	return s
}

// nothingBooted is the step boot-log of an SNP guest: evidence.Parse has seen that the
// evidence has no boot log.
func nothingBooted(ev *evidence.Bundle) Step {
	if got := evidence.NoBootLog(); got != ev.Claims.BootLog {
		return fail("the boot log is not the one that the claims name", Comparison{"boot log, SHA-384", ev.Claims.BootLog.String(), got.String()})
	}
	return warn("nothing in the TEE logged the boot: the launch measurement is all that is known of it")
}

// unheldLog is the step runtime-log of an SNP guest: no register holds its log.
func unheldLog(ev *evidence.Bundle) Step {
	if later := len(ev.Log) - ev.Claims.Log.Count; later != 0 {
		return fail(fmt.Sprintf("the claims count %d events, the log has %d: nothing else vouches for them", ev.Claims.Log.Count, len(ev.Log)))
	}
	return warn("no register holds the log: the agent alone vouches for it, and so could whoever has been root since the boot")
}

// describeRoot describes a trusted root.
func describeRoot(trusted *x509.Certificate, opts Options) *Root {
	root := &Root{"built-in", dcap.RootName(trusted), dcap.Fingerprint(trusted)}
	switch {
	case opts.TrustRoots == nil:
	case simulated(trusted):
		root.Kind = "simulated"
	default:
		root.Kind = "given"
	}
	return root
}

// ofSNP adds what is not proved of root, guest, platform and boot.
func (g *gapList) ofSNP(c *conclusion) {
	r, a, opts := c.Result, c.ev.SNP, c.opts
	g.ofRoot(r.Root != nil && r.Root.Kind == "simulated", opts)
	_, open := opts.Policy.Guest().JudgeOpen(a.Report)
	g.add(len(open) > 0, codes.SNPOpen, "")
	g.add(r.outcome(StepRevocation) == Skip, codes.Collateral, "--online gets AMD's list")
	g.add(r.outcome(StepTCB) == Skip, codes.SNPLevel, "")
	told := opts.Policy.Guest().Told(a.Report)
	g.add(len(told) > 0, codes.Platform, strings.Join(told, ", "))
	g.ofAsked(r, c.Boot, opts)
}
