package policy

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/policy"
)

func (c *conversion) container() {
	o := c.old.Container
	for key, there := range map[string]bool{"container.launch_digests": len(o.LaunchDigests) > 0, "container.launch": o.Launch != nil} {
		if there {
			c.refuse(key, "a launch has other members since form 2: `cimactl predict` computes its digest, `cimactl policy init` writes its facts")
		}
	}
	if !o.Any && len(o.ImageDigests) == 0 {
		return // it trusted no container
	}
	to := containerTable{Name: "the container", Any: o.Any, Source: o.Source, CgroupOwner: o.CgroupOwner, Execs: slices.Concat(lower(o.Execs), o.ExecVerity)}
	if len(o.ImageDigests) > 0 { // both had to fit
		c.to.Image = map[string]imageTable{"image": {o.ImageDigests}}
		to.Any, to.Image = false, "image"
	}
	switch gated, observed := slices.Contains(o.Start, "gated"), slices.Contains(o.Start, "observed"); {
	case o.Start != nil && !gated:
		c.refuse("container.start", `form 2 always takes the start "gated"`)
	case observed:
		to.Waive = []string{codes.Start}
	}
	if len(to.Execs) > 0 {
		c.notes = append(c.notes, "container.execs: that nothing else ran is not proved, and stands in the way of trust: waive executions if you take it")
	}
	if o.AllowMissed {
		c.leave("container.allow_missed", "an exec without a digest is refused where execs are named")
	}
	c.to.Containers = []containerTable{to}
}

func lower(list []string) []string {
	list = slices.Clone(list)
	for i, s := range list {
		list[i] = strings.ToLower(s)
	}
	return list
}

// others are the host's processes, and power.
func (c *conversion) others() {
	if h := c.old.Host; h.Any || len(h.Units) > 0 {
		c.to.Host = &hostTable{h.Any, h.Units}
	}
	var known []string
	for _, class := range c.old.Power.Allow {
		if _, err := policy.Parse("", fmt.Appendf(nil, "cima_policy = 2\n[power]\nallow = %s\n", quoted(class))); err != nil {
			c.leave(fmt.Sprintf("power.allow %q", class), "there is no such class of power")
			continue
		}
		known = append(known, class)
	}
	if known != nil {
		c.to.Power = map[string][]string{"allow": known}
	}
}

// quoted is a text in TOML.
func quoted(text string) string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(map[string]string{"a": text}); err != nil {
		return "0" // no text of TOML: no class either
	}
	_, value, _ := strings.Cut(strings.TrimSpace(b.String()), " = ")
	return value
}

// patterns are those of required and forbidden events. They are demands.
func (c *conversion) patterns(kind string, old []patternTables) []patternTables {
	for i, p := range old {
		key := fmt.Sprintf("%s %d (%s)", kind, i+1, p.Operation)
		if p.Operation == "launch" && len(p.Match) > 0 {
			c.refuse(key, "a launch has other members since form 2")
		}
		for _, name := range slices.Sorted(maps.Keys(p.Match)) {
			if !plain(p.Match[name]) {
				c.refuse(key+": match."+name, "form 2 compares tables, and what is empty, in another way")
			}
		}
	}
	return old
}

// plain reports whether a value means the same in both forms.
func plain(v any) bool {
	switch v := v.(type) {
	case string:
		return v != ""
	case bool:
		return v
	case int64:
		return v != 0
	case []any:
		return len(v) > 0 && !slices.ContainsFunc(v, func(v any) bool { return !plain(v) })
	}
	return false
}
