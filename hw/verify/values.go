package verify

import (
	"fmt"
	"iter"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
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

// quoteDigests are the digests in a quote that a policy can revoke.
func quoteDigests(q *dcap.Quote, now policy.Booted, yield func(what, digest string) bool) bool {
	for _, d := range []struct {
		what   string
		digest hw.Digest
	}{
		{"MRTD", q.Registers.MRTD}, {"MRSEAM", q.Module}, {"MRCONFIGID", q.ConfigID}, {"MROWNER", q.Owner}, {"MROWNERCONFIG", q.OwnerConf},
		{"RTMR0", now.RTMR[0]}, {"RTMR1", now.RTMR[1]}, {"RTMR2", now.RTMR[2]},
	} {
		if !yield(d.what, d.digest.String()) {
			return false
		}
	}
	for _, d := range q.ServiceTDs() {
		if !yield("service TD", d.String()) {
			return false
		}
	}
	if now.Log == nil {
		return true
	}
	for _, e := range now.Log.UnverifiedEvents() { // proved by now: they replay to the quote's registers
		if !yield("boot event", hw.Digest(e.Digest).String()) {
			return false
		}
	}
	return true
}

// digests are all digests in the evidence that a policy can revoke.
func digests(ev *evidence.Bundle, in *instances.Instance) iter.Seq2[string, string] {
	return func(yield func(what, digest string) bool) {
		if !quoteDigests(ev.Quote, booted(ev), yield) {
			return
		}
		for e := range ev.ShownEvents() {
			if e.Container == "" && !eventDigests(e, yield) {
				return
			}
		}
		if in == nil || in.Launch == nil {
			return
		}
		for _, e := range in.Events {
			if !eventDigests(e, yield) {
				return
			}
		}
		if !yield("launch", in.LaunchSum.String()) || !yield("defaults", in.DefaultsDigest.String()) ||
			!yield("image", in.Image.Digest) || !yield("image", in.Image.Manifest) {
			return
		}
		for _, layer := range in.Image.Layers {
			if !yield("layer", layer) {
				return
			}
		}
	}
}

// eventDigests are those of programs.
func eventDigests(e *logs.Event, yield func(what, digest string) bool) bool {
	switch e.Operation {
	case logs.OpStart, logs.OpSystem, logs.OpExec:
	default:
		return true
	}
	var body struct {
		Executable string `json:"executable"`
		SHA384     string `json:"sha384"`
		Verity     string `json:"verity"`
	}
	if canonical.Decode(e.Body(), &body) != nil {
		return true
	}
	return yield("the agent", body.Executable) && yield("a program", body.SHA384) && yield("a program", body.Verity)
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
		return pass(fmt.Sprintf("MRTD and RTMR0–2 are those of the boot %q: firmware %s, system %s", b.Name, b.Firmware, b.System)), found.Known, nil
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
	words := found.Differ
	if found.Nearest != "" {
		words = fmt.Sprintf("nearest is container %q: %s", found.Nearest, found.Differ)
		if found.Others > 0 {
			words += fmt.Sprintf(" (%d more differ)", found.Others)
		}
	}
	if !p.KnowsLaunch(in.LaunchSum) {
		f.explain("launch digest", in.LaunchSum, p.Explain(in.Measured))
	}
	if in.DefaultsDigest != (rpc.Digest{}) && p.BindsDefaults() && !p.KnowsDefaults(in.DefaultsDigest) {
		f.explain("defaults digest", in.DefaultsDigest, p.ExplainDefaults(in.Measured))
	}
	return fail("the policy does not allow it: "+strings.Join(append([]string{words}, f.wrong...), "; "), f.compared...)
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
