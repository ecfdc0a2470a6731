package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

const noPolicy = "no policy was given"

// bootValues: does a reference value say who wrote what was booted? The agent
// is software in the guest: its word is worth what was measured on the way to
// it, and no more.
func (a *appraisal) bootValues() Step {
	if a.opts.Policy == nil {
		return skip(noPolicy + ": nothing says who wrote firmware, kernel and agent")
	}
	if len(a.opts.Policy.Boot) == 0 {
		return skip("the policy has no [[boot]]: nothing says who wrote firmware, kernel and agent")
	}
	// The nearest set is the one worth showing.
	var nearest []Comparison
	differ, least := "", 1<<30
	now := a.booted()
	for _, b := range a.opts.Policy.Boot {
		compared, names := b.against(a.quote.Registers, now)
		if len(names) == 0 {
			a.boot = b.Name
			return pass("MRTD and RTMR0–2 are those of the boot "+bootName(b), compared...)
		}
		if len(names) < least {
			nearest, least = compared, len(names)
			differ = fmt.Sprintf("%s not as in the nearest known boot, %s", strings.Join(names, ", "), bootName(b))
		}
	}
	return fail(differ, nearest...)
}

func bootName(b BootValues) string {
	if b.Name == "" {
		return "without a name"
	}
	return fmt.Sprintf("%q", b.Name)
}

// against returns what was compared and the names of what differs.
func (b BootValues) against(r hw.Registers, now booted) (compared []Comparison, differ []string) {
	if now.further && !b.OSLog {
		compared = append(compared, Comparison{"log of the operating system", "none", "one that extends RTMR2"})
		differ = append(differ, "what the operating system extended RTMR2 with is")
	}
	if now.further && !now.begun {
		compared = append(compared, Comparison{"log of the operating system", "IMA's, from its boot_aggregate on", "another, or its begin is a digest"})
		differ = append(differ, "the begin of the operating system's log is")
	}
	for _, v := range []struct {
		name string
		want *rpc.Digest
		got  hw.Digest
	}{
		{"MRTD", b.MRTD, r.MRTD},
		{"RTMR0", b.RTMR0, now.rtmr[0]},
		{"RTMR1", b.RTMR1, now.rtmr[1]},
		{"RTMR2", b.RTMR2, now.rtmr[2]},
	} {
		if v.want == nil {
			continue // known by events
		}
		compared = append(compared, Comparison{v.name, v.want.String(), v.got.String()})
		if *v.want != v.got {
			differ = append(differ, v.name)
		}
	}
	moreCompared, moreDiffer := b.againstEvents(now.log)
	return append(compared, moreCompared...), append(differ, moreDiffer...)
}

// findings collects what a policy says of several things.
type findings struct {
	compared []Comparison
	wrong    []string
}

func (f *findings) want(ok bool, what, want, got string) {
	f.compared = append(f.compared, Comparison{what, want, got})
	if !ok {
		f.wrong = append(f.wrong, fmt.Sprintf("%s is %s", what, orNone(got)))
	}
}

func (f *findings) step(fine string) Step {
	if len(f.wrong) > 0 {
		return fail("the policy does not allow it: "+strings.Join(f.wrong, "; "), f.compared...)
	}
	return pass(fine, f.compared...)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// oneOf is how a policy's list reads in a comparison.
func oneOf[T any](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return orNone(strings.Join(words, " or "))
}

// callerValues: is it a container, or a unit, that the relying party knows?
func (a *appraisal) callerValues() Step {
	if a.opts.Policy == nil {
		return skip(noPolicy + ": nothing says what the container should be")
	}
	if a.claims.Host != nil {
		return a.hostValues(a.opts.Policy.Host)
	}
	p := a.opts.Policy.Container
	if !p.Any && len(p.LaunchDigests) == 0 && len(p.ImageDigests) == 0 {
		return skip("the policy has no launch_digests and no image_digests: nothing says what the container should be")
	}
	var f findings
	in, as := a.instance, a.claims.Container.Assurance
	if len(p.LaunchDigests) > 0 {
		f.want(slices.Contains(p.LaunchDigests, in.digest), "launch digest", oneOf(p.LaunchDigests), in.digest.String())
	}
	if len(p.ImageDigests) > 0 {
		known := slices.Contains(p.ImageDigests, in.image.Digest) || slices.Contains(p.ImageDigests, in.image.Manifest)
		f.want(known, "image digest", oneOf(p.ImageDigests), in.image.Digest)
	}
	f.want(slices.Contains(p.Start, as.Start), "start", oneOf(p.Start), as.Start)
	f.want(slices.Contains(p.Source, in.launch.Source), "source", oneOf(p.Source), in.launch.Source)
	f.want(slices.Contains(p.CgroupOwner, as.CgroupOwner), "cgroup owner", oneOf(p.CgroupOwner), fmt.Sprint(as.CgroupOwner))
	if p.Execs != nil || p.ExecVerity != nil {
		a.wantExecs(&f, &p)
	}
	if p.Launch != nil {
		in.wantLaunch(&f, p.Launch)
	}
	if p.Any {
		return f.step("the policy takes any container that was started so")
	}
	return f.step("the container is one that the policy names")
}

func (a *appraisal) hostValues(p HostPolicy) Step {
	var f findings
	f.want(p.Any || slices.Contains(p.Units, a.claims.Host.Unit) && a.claims.Host.Unit != "",
		"host process", oneOf(p.Units), "of unit "+orNone(a.claims.Host.Unit))
	return f.step("a host process that the policy names")
}
