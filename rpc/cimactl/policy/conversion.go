package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/policy"
)

// conversion makes form 2 of form 1. The new policy never trusts more: what allowed more,
// and can't be said, is left out with a note; what demanded more, and can't be said, is
// refused.
type conversion struct {
	old     *formOne
	to      formTwo
	notes   []string
	refused []error
}

func (c *conversion) leave(key, why string) { c.notes = append(c.notes, key+" is left out: "+why) }
func (c *conversion) refuse(key, why string) {
	c.refused = append(c.refused, fmt.Errorf("%s can't be converted: %s", key, why))
}

// convert writes the policy of form 2.
func (p *formOne) convert() (text string, notes []string, err error) {
	c := &conversion{old: p, to: formTwo{Form: 2, Name: "converted from form 1"}}
	c.boots()
	c.td()
	c.tcb()
	c.agent()
	c.container()
	c.others()
	c.to.Required, c.to.Forbidden = c.patterns("required", p.Required), c.patterns("forbidden", p.Forbidden)
	if err := errors.Join(c.refused...); err != nil {
		return "", nil, err
	}
	var b bytes.Buffer
	b.WriteString("# Made of a policy of form 1, see cima-policy(5).\n")
	for _, n := range c.notes {
		fmt.Fprintf(&b, "# %s\n", n)
	}
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(c.to); err != nil {
		return "", nil, err
	}
	if _, err := policy.Parse("the new policy", b.Bytes()); err != nil {
		return "", nil, fmt.Errorf("form 2 doesn't take its values: %w", err)
	}
	return b.String(), c.notes, nil
}

func (c *conversion) boots() {
	for i, b := range c.old.Boot {
		n := i + 1
		key := fmt.Sprintf("boot %d (%q)", n, b.Name)
		switch {
		case len(b.Events) > 0:
			c.leave(key, "its events are a set, and form 2 wants their order; `cimactl policy init` writes it from evidence")
			continue
		case b.MRTD == "" || b.RTMR0 == "" || b.RTMR1 == "" || b.RTMR2 == "":
			c.leave(key, "it must have mrtd, rtmr0, rtmr1 and rtmr2: less doesn't cover a boot")
			continue
		}
		if c.to.Boot == nil {
			c.to.Firmware, c.to.System = make(map[string]firmwareTable), make(map[string]systemOfBoot)
			c.notes = append(c.notes, `[system]: root is "not covered" and host_input is "unknown", for form 1 said nothing of them: they stand in the way of trust until you say them, or waive root-not-covered and host-input-unknown`)
		}
		id := fmt.Sprintf("boot-%d", n)
		c.to.Firmware[id] = firmwareTable{strings.ToLower(b.MRTD), registerWord(b.RTMR0)}
		c.to.System[id] = systemOfBoot{registerWord(b.RTMR1), registerWord(b.RTMR2), "not covered", "unknown", b.OSLog}
		c.to.Boot = append(c.to.Boot, bootTable{strings.TrimSpace(fmt.Sprintf("%d %s", n, b.Name)), id, id})
	}
	if len(c.old.Boot) > 0 && c.to.Boot == nil {
		c.refuse("boot", strings.Join(c.notes, "; "))
	}
}

// registerWord is a register's value as form 2 has it.
func registerWord(value string) string {
	if value == strings.Repeat("0", 96) {
		return "zero"
	}
	return strings.ToLower(value)
}

func (c *conversion) td() {
	const why = "form 2 names all bits of TDATTRIBUTES that such a TD has: take [td] from `cimactl policy init`"
	if c.old.TD.AllowDebug {
		c.leave("td.allow_debug", why)
	}
	if c.old.TD.AllowMigratable {
		c.leave("td.allow_migratable", why)
	}
	if len(c.old.TD.ServiceTDs) > 0 {
		c.leave("td.service_tds", why)
	}
}

func (c *conversion) tcb() {
	t := c.old.TCB
	if t.Statuses == nil && t.MinDate == "" && t.MinSVN == "" {
		return
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if _, err := time.Parse(layout, t.MinDate); err == nil {
			c.to.TCB = &tcbTable{t.Statuses, literal(t.MinDate), strings.ToLower(t.MinSVN)}
			return
		}
	}
	if t.MinDate != "" {
		c.refuse("tcb.min_date", fmt.Sprintf("%q must be a day, as 2026-12-31, or a time of RFC 3339", t.MinDate))
		return
	}
	c.to.TCB = &tcbTable{Statuses: t.Statuses, MinSVN: strings.ToLower(t.MinSVN)}
}

func (c *conversion) agent() {
	a := c.old.Agent
	for _, name := range a.Anchors {
		if name != "rtmr3" && name != "report-data" {
			c.refuse("agent.anchors", fmt.Sprintf("%q must be rtmr3 or report-data", name))
		}
	}
	switch wants, takes := slices.Contains(a.Anchors, "rtmr3"), slices.Contains(a.Anchors, "report-data"); {
	case takes && !wants:
		c.refuse("agent.anchors", "form 2 always takes the anchor rtmr3")
	case takes:
		c.to.Waive = append(c.to.Waive, codes.Anchor)
	}
	if a.AllowPrivate {
		c.to.Waive = append(c.to.Waive, codes.Private)
	}
	if a.AllowNewKey {
		c.to.Waive = append(c.to.Waive, codes.AgentKey)
	}
}
