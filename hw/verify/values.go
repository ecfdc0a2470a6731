package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
)

const noPolicy = "no policy was given"

// bootValues: does a reference value say who wrote what was booted? The agent
// is software in the guest: its word is worth what was measured on the way to
// it, and no more. It returns the name of the boot that fits.
func bootValues(now policy.Booted, opts Options) (s Step, title string) {
	if opts.Policy == nil {
		return skip(noPolicy + ": nothing says who wrote firmware, kernel and agent"), ""
	}
	if len(opts.Policy.Boot) == 0 {
		return skip("the policy has no [[boot]]: nothing says who wrote firmware, kernel and agent"), ""
	}
	// The result shows the set that differs least.
	var nearest []Comparison
	differ, least := "", 1<<30
	for _, b := range opts.Policy.Boot {
		found, names := b.Against(now)
		var f findings
		f.add(found)
		if len(names) == 0 {
			return pass("MRTD and RTMR0–2 are those of the boot "+b.Title(), f.compared...), b.Name
		}
		if len(names) < least {
			nearest, least = f.compared, len(names)
			differ = fmt.Sprintf("%s not as in the nearest known boot, %s", strings.Join(names, ", "), b.Title())
		}
	}
	return fail(differ, nearest...), ""
}

// callerValues: is it a container, or a unit, that the relying party knows?
func callerValues(ev *evidence, in *instance, opts Options) Step {
	if opts.Policy == nil {
		return skip(noPolicy + ": nothing says what the container should be")
	}
	if ev.claims.Host != nil {
		return hostValues(ev.claims.Host, opts.Policy.Host)
	}
	p := opts.Policy.Container
	if in.Earlier {
		return fail("the container can't be held against the policy: " + loggedEarlier)
	}
	if !p.Any && len(p.LaunchDigests) == 0 && len(p.ImageDigests) == 0 {
		return skip("the policy has no launch_digests and no image_digests: nothing says what the container should be")
	}
	var f findings
	as := ev.claims.Container.Assurance
	f.wantDigest("launch digest", p.LaunchDigests, in.digest, func() policy.Explanation { return p.Explain(in.Measured) })
	f.wantDigest("defaults digest", p.DefaultsDigests, in.DefaultsDigest, func() policy.Explanation { return p.ExplainDefaults(in.Measured) })
	if len(p.ImageDigests) > 0 {
		known := slices.Contains(p.ImageDigests, in.Image.Digest) || slices.Contains(p.ImageDigests, in.Image.Manifest)
		f.want(known, "image digest", policy.OneOf(p.ImageDigests), in.Image.Digest)
	}
	f.want(slices.Contains(p.Start, as.Start), "start", policy.OneOf(p.Start), as.Start)
	f.want(slices.Contains(p.Source, in.Source), "source", policy.OneOf(p.Source), in.Source)
	f.want(slices.Contains(p.CgroupOwner, as.CgroupOwner), "cgroup owner", policy.OneOf(p.CgroupOwner), fmt.Sprint(as.CgroupOwner))
	if p.Execs != nil || p.ExecVerity != nil {
		wantExecs(&f, ev.prefix(), in.events, &p)
	}
	if p.Launch != nil {
		f.add(p.Launch.Judge(in.Launch, in.events[0].Body(), &in.places))
	}
	if p.Any {
		return f.step("the policy takes any container that was started so")
	}
	return f.step("the container is one that the policy names")
}

func hostValues(host *rpc.HostClaims, p policy.Host) Step {
	var f findings
	f.want(p.Any || slices.Contains(p.Units, host.Unit) && host.Unit != "",
		"host process", policy.OneOf(p.Units), "of unit "+cmp.Or(host.Unit, "none"))
	return f.step("a host process that the policy names")
}
