package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/logs"
)

// Shown is what cimad says of a running container to who looks its process up
// (LookUpProcess, cima-api(7)). It is less than evidence shows.
type Shown struct {
	Launch hw.Digest // zero: not known
	Image  string    // the config's digest; "": not known
	Source string
	Owner  uint32 // of the cgroup
	Gated  bool   // judged before its first instruction
	PIDFD  bool
	Power  []string // classes of power; nil: not known
}

// Alternatives are the names of each [[container]] that a container meets at a time, in the
// policy's order, each once. An alternative that asks for more than a look-up shows is not
// met, and none is where the policy doesn't allow a class of power, or does not count then.
// Boot, platform and log are not judged. What it costs grows with the policy alone.
func (p *Policy) Alternatives(s Shown, at time.Time) (names []string) {
	digests := maps.All(map[string]string{"launch": s.Launch.String(), "image": s.Image})
	if p.Valid(at) != "" || s.Launch == (hw.Digest{}) || s.Power == nil || len(p.JudgePower(s.Power)) > 0 ||
		len(p.Revoked(digests, at)) > 0 || p.unshownEvents() != "" {
		return nil
	}
	x := p.index
	numbers := slices.Concat(x.any, x.launch[s.Launch.String()])
	if s.Image != "" {
		numbers = append(numbers, x.image[s.Image]...)
	}
	slices.Sort(numbers)
	seen := make(map[string]bool)
	for _, n := range slices.Compact(numbers) {
		if c := p.containers[n]; !seen[c.name] && p.meets(c, s, at) {
			seen[c.name] = true
			names = append(names, c.name)
		}
	}
	return names
}

func (p *Policy) meets(c *container, s Shown, at time.Time) bool {
	image := func(name string) bool {
		i := p.images[name]
		return s.Image != "" && slices.Contains(i.digests, s.Image) && i.out(at) == ""
	}
	return c.unshown() == "" && c.out(at) == "" &&
		(len(c.launch) == 0 || slices.Contains(c.launch, s.Launch.String())) &&
		(len(c.image) == 0 || slices.ContainsFunc(c.image, image)) &&
		slices.Contains(c.source, s.Source) && slices.Contains(c.owner, int64(s.Owner)) &&
		p.open(c, s) == ""
}

// open is a code of what the look-up leaves open, and the policy doesn't: "" where there is none.
func (p *Policy) open(c *container, s Shown) string {
	wishes := p.Wishes(nil, &Container{rule: c, wishes: codes.Wishes{c.Wish}})
	for _, gap := range []struct {
		there bool
		code  string
	}{
		{!s.Gated, codes.Start}, {!s.PIDFD, codes.CallerProcess}, {s.Owner != 0, codes.Owner}, {s.Image == "", codes.Image},
		{c.any, codes.AnyCaller}, {len(s.Power) > 0, codes.Power},
		{true, codes.Channel}, {true, codes.Defaults}, {true, codes.Executions}, {true, codes.Volumes}, {true, codes.Later},
	} {
		if stands, _ := wishes.Stands(gap.code); gap.there && stands {
			return gap.code
		}
	}
	return ""
}

// unshown is a key of the alternative that is about what no look-up shows; "" where there is none.
func (c *container) unshown() string {
	switch {
	case len(c.match) > 0:
		return "match"
	case c.execs != nil:
		return "execs"
	case len(c.defaults) > 0:
		return "defaults"
	case len(c.boot) > 0:
		return "boot"
	}
	return ""
}

// ofMachine are the operations of events that are of no container.
var ofMachine = []string{logs.OpStart, logs.OpPolicy, logs.OpSeal, logs.OpSystem, logs.OpMissed, logs.OpIMA}

// unshownEvents is an operation of containers in [[required]] or [[forbidden]], of which no
// look-up shows the events; "" where there is none. Those of the machine are for who
// attests the machine.
func (p *Policy) unshownEvents() string {
	for _, one := range slices.Concat(p.required, p.forbidden) {
		if !slices.Contains(ofMachine, one.operation) {
			return one.operation
		}
	}
	return ""
}

// Unshown says which alternatives Alternatives never names, and why: they ask for what no
// look-up shows. all: it names none.
func (p *Policy) Unshown() (reasons []string, all bool) {
	if why := p.unshownEvents(); why != "" {
		return []string{fmt.Sprintf("[[required]] or [[forbidden]] asks for %s events of a container, which no look-up shows", why)}, true
	}
	for _, c := range p.containers {
		if why := c.unshown(); why != "" {
			reasons = append(reasons, fmt.Sprintf("container %q has %s, which no look-up shows", c.name, why))
		}
	}
	return reasons, len(reasons) == len(p.containers)
}
