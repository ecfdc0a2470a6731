package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
)

// gap is something that a reader could take for proved, and is not.
type gap struct {
	code   string
	detail string // "" where the code says it all
}

// gapList collects gaps.
type gapList []gap

func (g *gapList) add(there bool, code, detail string) {
	if there && !slices.ContainsFunc(*g, func(one gap) bool { return one.code == code }) {
		*g = append(*g, gap{code, detail})
	}
}

func (g *gapList) all(list []string) {
	for _, c := range list {
		g.add(true, c, "")
	}
}

// ofQuote adds what is not proved of root, TD, platform and boot.
func (g *gapList) ofQuote(r *Result, q *dcap.Quote, boot *policy.Boot, opts Options) {
	g.ofRoot(simulated(q.Root()), opts)
	_, open := opts.Policy.JudgeOpen(tdOf(q))
	g.all(open)
	g.add(r.outcome(StepRevocation) == Skip, codes.Collateral, "--online gets it")
	if r.outcome(StepTCB) == Warn {
		g.add(true, codes.TCBLevel, r.Step(StepTCB).Detail)
	}
	_, set := opts.Policy.Platform().For(certified(q)).JudgePlatform(certified(q))
	g.add(len(set) > 0, codes.Platform, strings.Join(set, ", "))
	g.ofAsked(r, boot, opts)
}

func (g *gapList) ofRoot(simulated bool, opts Options) {
	g.add(opts.TrustRoots != nil && simulated, codes.RootSimulated, "")
	g.add(opts.TrustRoots != nil && !simulated, codes.RootGiven, "")
}

// ofAsked adds what is not proved of what the verifier asked, and of the boot.
func (g *gapList) ofAsked(r *Result, boot *policy.Boot, opts Options) {
	g.add(r.outcome(StepNonce) == Skip, codes.Nonce, "")
	_, aged := opts.Policy.JudgeNonce(opts.NonceMade, opts.at())
	g.add(!aged && r.outcome(StepNonce) != Skip, codes.NonceAge, "")
	g.add(r.outcome(StepUserData) == Skip, codes.Channel, "")
	if boot != nil {
		g.all(boot.Gaps)
	} else {
		g.add(true, codes.BootUnknown, "")
	}
}

// gaps are what is not proved by evidence with claims.
func (c *conclusion) gaps() []gap {
	var g gapList
	if c.ev.SNP != nil {
		g.ofSNP(c)
	} else {
		g.ofQuote(c.Result, c.ev.Quote, c.Boot, c.opts)
	}
	g.add(c.ev.TPM != nil && (c.Boot == nil || c.Boot.VTPM == ""), codes.Paravisor, "")
	g.add(c.ev.TPM != nil, codes.ReportTime, "")
	unheld, guest := c.ev.Claims.Log.Anchor == logs.AnchorReportData, c.ev.TPM == nil && c.ev.SNP != nil
	g.add(unheld && guest, codes.NoRegister, "")
	g.add(unheld && !guest, codes.Anchor, "")
	g.add(c.ev.Private(), codes.Private, "")
	g.add(c.keys.Changed(), codes.AgentKey, "")
	g.add(c.ev.MissedLaunches(), codes.MissedLaunch, "")
	classes := c.ev.PowerClasses()
	g.add(len(classes) > 0 && c.passed(StepPower), codes.Power, strings.Join(classes, ", "))
	g.add(len(c.ev.Log) > c.ev.Claims.Log.Count, codes.Later, fmt.Sprintf("%d events", len(c.ev.Log)-c.ev.Claims.Log.Count))
	g.add(!c.passed(StepCallerValues), codes.CallerUnknown, "")
	g.all(c.caller.gaps)
	if c.ev.Claims.Host != nil {
		g.add(true, codes.HostProcess, "")
		return g
	}
	as := c.ev.Claims.Container.Assurance
	g.add(as.Start != logs.StartGated, codes.Start, cmp.Or(as.Start, "none"))
	g.add(!as.PIDFD, codes.CallerProcess, "")
	g.add(as.CgroupOwner != 0, codes.Owner, fmt.Sprintf("uid %d owns its cgroup", as.CgroupOwner))
	if in := c.instance; in != nil && in.Launch != nil {
		g.add(in.Earlier, codes.EarlierLaunch, "")
		g.add(in.Image.Absent != "", codes.Image, in.Image.Absent)
		g.add(in.Places.Any() && c.caller.known == nil, codes.Mounts, in.Places.Words())
		g.detail(codes.Mounts, in.Places.Words())
		g.add(c.caller.known == nil, codes.Executions, "")
		g.detail(codes.Executions, in.Unproved)
	}
	g.add(true, codes.Volumes, "")
	return g
}

// detail says more of a gap that is there.
func (g *gapList) detail(code, detail string) {
	for i := range *g {
		if (*g)[i].code == code {
			(*g)[i].detail = detail
		}
	}
}

// notProved: nothing is left that stands in the way of trust, or the policy waives it by
// its name.
func (r *Result) notProved(opts Options) Step {
	if opts.Policy == nil {
		return skip(noPolicy + ": nothing is waived")
	}
	wishes := opts.Policy.Wishes(r.Boot, r.Container)
	var left, accepted []string
	for _, g := range r.gaps {
		switch stands, waived := wishes.Stands(g.code); {
		case stands:
			left = append(left, g.code)
		case waived:
			accepted = append(accepted, g.code)
		}
	}
	switch {
	case len(left) > 0:
		return fail("these are not proved, and the policy doesn't waive them: " + strings.Join(left, ", "))
	case len(accepted) > 0:
		return warn("the policy waives what is not proved: " + strings.Join(accepted, ", "))
	}
	return pass("nothing is left that stands in the way")
}

// tellGaps lists what a reader could take for proved and is not.
func (r *Result) tellGaps(opts Options) {
	for _, s := range r.Failed() {
		if s.Name != StepNotProved {
			r.NotProved = append(r.NotProved, Statement{Code: s.Name, Text: s.Name + ": " + s.Detail, Stands: true})
		}
	}
	wishes := opts.Policy.Wishes(r.Boot, r.Container)
	for _, g := range r.gaps {
		code, _ := codes.Of(g.code)
		text := code.What
		if g.detail != "" {
			text += ": " + g.detail
		}
		stands, waived := wishes.Stands(g.code)
		r.NotProved = append(r.NotProved, Statement{g.code, text, stands, waived})
	}
}
