package verify

import (
	"fmt"
	"iter"
	"strings"

	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

const noPolicy = "no policy was given"

// policyCounts: the policy is in force now, and revokes nothing of the evidence.
func policyCounts(digests iter.Seq2[string, string], opts Options) Step {
	if opts.Policy == nil {
		return skip(noPolicy)
	}
	if why := opts.Policy.Valid(opts.at()); why != "" {
		return fail(why)
	}
	if revoked := opts.Policy.Revoked(digests, opts.at()); len(revoked) > 0 {
		return fail(strings.Join(revoked, "; "))
	}
	return pass("the policy is in force, and revokes nothing of this")
}

// bootValues: does a reference value say who wrote what was booted? The agent is software
// in the guest: its word is worth what was measured on the way to it, and no more. It
// returns the boots that fit.
func bootValues(now policy.Booted, opts Options) (Step, []policy.Boot, error) {
	if opts.Policy == nil {
		return skip(noPolicy + ": nothing says who wrote firmware, kernel and agent"), nil, nil
	}
	if boots, _ := opts.Policy.Knows(); !boots {
		return skip("the policy has no [[boot]]: nothing says who wrote firmware, kernel and agent"), nil, nil
	}
	found, err := opts.Policy.JudgeBoot(now, opts.at())
	if err != nil {
		return Step{}, nil, err
	}
	if len(found.Known) > 0 {
		b := found.Known[0]
		return pass(b.Fits()), found.Known, nil
	}
	return fail(fmt.Sprintf("not as in the nearest known boot, %q: %s", found.Nearest, found.Differences())), nil, nil
}

// known is what the policy says of the caller.
type known struct {
	known *policy.Container // nil for processes of the host, and callers that no alternative fits
	gaps  []string          // codes
}

// callerValues: is it a container, or a unit, that the relying party knows?
func callerValues(ev *evidence.Bundle, in *instances.Instance, boots []policy.Boot, opts Options) (Step, known, error) {
	if opts.Policy == nil {
		return skip(noPolicy + ": nothing says what the container should be"), known{}, nil
	}
	if _, callers := opts.Policy.Knows(); !callers {
		return skip("the policy has no [[container]] and no [host]: nothing says what the caller should be"), known{}, nil
	}
	if ev.Claims.Host != nil {
		return hostValues(ev, opts)
	}
	if in.Earlier {
		return fail("the container can't be held against the policy: " + loggedEarlier), known{}, nil
	}
	c := policy.Caller{
		LaunchDigest: in.LaunchSum, DefaultsDigest: in.DefaultsDigest, Launch: in.Events[0].Body(), Image: in.ImageEvent.Body(),
		Claims: ev.Wire.Claims, Places: in.Places, Execs: in.Execs, Unproved: in.Unproved != "",
	}
	found, err := opts.Policy.JudgeContainer(c, boots, opts.at())
	if err != nil {
		return Step{}, known{}, err
	}
	if found.Known != nil {
		return pass(fmt.Sprintf("the container is the policy's %q", found.Known.Name), Comparison{"launch digest", in.LaunchSum.String(), in.LaunchSum.String()}),
			known{found.Known, found.Known.Gaps}, nil
	}
	return unknownCaller(in, found, opts.Policy), known{}, nil
}

// unknownCaller explains why no alternative fits.
func unknownCaller(in *instances.Instance, found policy.Containers, p *policy.Policy) Step {
	var f findings
	f.show(found.Facts)
	if found.LaunchUnknown {
		f.tell(p.Explain(in.Measured).Tell("launch digest", in.LaunchSum))
	}
	if in.DefaultsDigest != (rpc.Digest{}) && p.BindsDefaults() && !p.KnowsDefaults(in.DefaultsDigest) {
		f.tell(p.ExplainDefaults(in.Measured).Tell("defaults digest", in.DefaultsDigest))
	}
	return fail("the policy does not allow it: "+strings.Join(append([]string{found.Words()}, f.wrong...), "; "), f.compared...)
}

func hostValues(ev *evidence.Bundle, opts Options) (Step, known, error) {
	found, gaps, err := opts.Policy.JudgeHost(ev.Claims.Host.Unit, ev.Wire.Claims)
	if err != nil {
		return Step{}, known{}, err
	}
	var f findings
	f.add(found)
	return f.step("a host process that the policy names"), known{gaps: gaps}, nil
}
