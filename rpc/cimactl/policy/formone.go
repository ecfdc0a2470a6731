package policy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/hw/verify/policy"
)

// formOne is a policy of form 1, which CIMA wrote before form 2.
type formOne struct {
	Boot []bootOne `toml:"boot"`
	TD   struct {
		AllowDebug      bool     `toml:"allow_debug"`
		AllowMigratable bool     `toml:"allow_migratable"`
		ServiceTDs      []string `toml:"service_tds"`
	} `toml:"td"`
	TCB struct {
		Statuses []string `toml:"statuses"`
		MinDate  string   `toml:"min_date"`
		MinSVN   string   `toml:"min_svn"`
	} `toml:"tcb"`
	Agent struct {
		Anchors      []string `toml:"anchors"`
		AllowNewKey  bool     `toml:"allow_new_key"`
		AllowPrivate bool     `toml:"allow_private"`
	} `toml:"agent"`
	Container containerOne `toml:"container"`
	Host      struct {
		Any   bool     `toml:"any"`
		Units []string `toml:"units"`
	} `toml:"host"`
	Power struct {
		Allow []string `toml:"allow"`
	} `toml:"power"`
	Required  []patternTables `toml:"required"`
	Forbidden []patternTables `toml:"forbidden"`
}

type bootOne struct {
	Name   string `toml:"name"`
	MRTD   string `toml:"mrtd"`
	RTMR0  string `toml:"rtmr0"`
	RTMR1  string `toml:"rtmr1"`
	RTMR2  string `toml:"rtmr2"`
	OSLog  bool   `toml:"os_log"`
	Events []any  `toml:"events"`
}

type containerOne struct {
	Any           bool           `toml:"any"`
	LaunchDigests []string       `toml:"launch_digests"`
	ImageDigests  []string       `toml:"image_digests"`
	Start         []string       `toml:"start"`
	Source        []string       `toml:"source"`
	CgroupOwner   []uint32       `toml:"cgroup_owner"`
	Execs         []string       `toml:"execs"`
	ExecVerity    []string       `toml:"exec_verity"`
	AllowMissed   bool           `toml:"allow_missed"`
	Launch        map[string]any `toml:"launch"`
}

// The tables of form 2 that a policy of form 1 can become.
type (
	formTwo struct {
		Form       int                      `toml:"cima_policy"`
		Name       string                   `toml:"name"`
		Waive      []string                 `toml:"waive,omitempty"`
		TCB        *tcbTable                `toml:"tcb"`
		Firmware   map[string]firmwareTable `toml:"firmware,omitempty"`
		System     map[string]systemOfBoot  `toml:"system,omitempty"`
		Boot       []bootTable              `toml:"boot,omitempty"`
		Image      map[string]imageTable    `toml:"image,omitempty"`
		Containers []containerTable         `toml:"container,omitempty"`
		Host       *hostTable               `toml:"host"`
		Power      map[string][]string      `toml:"power,omitempty"`
		Required   []patternTables          `toml:"required,omitempty"`
		Forbidden  []patternTables          `toml:"forbidden,omitempty"`
	}
	tcbTable struct {
		Statuses []string `toml:"statuses,omitempty"`
		MinDate  literal  `toml:"min_date,omitempty"`
		MinSVN   string   `toml:"min_svn,omitempty"`
	}
	firmwareTable struct {
		MRTD  string `toml:"mrtd"`
		RTMR0 string `toml:"rtmr0"`
	}
	systemOfBoot struct {
		RTMR1     string `toml:"rtmr1"`
		RTMR2     string `toml:"rtmr2"`
		Root      string `toml:"root"`
		HostInput string `toml:"host_input"`
		OSLog     bool   `toml:"os_log,omitempty"`
	}
	bootTable struct {
		Name     string `toml:"name"`
		Firmware string `toml:"firmware"`
		System   string `toml:"system"`
	}
	imageTable struct {
		Digests []string `toml:"digests"`
	}
	containerTable struct {
		Name        string   `toml:"name"`
		Waive       []string `toml:"waive,omitempty"`
		Any         bool     `toml:"any,omitempty"`
		Image       string   `toml:"image,omitempty"`
		Source      []string `toml:"source,omitempty"`
		CgroupOwner []uint32 `toml:"cgroup_owner,omitempty"`
		Execs       []string `toml:"execs,omitempty"`
	}
	hostTable struct {
		Any   bool     `toml:"any,omitempty"`
		Units []string `toml:"units,omitempty"`
	}
	patternTables struct {
		Operation string         `toml:"operation"`
		Match     map[string]any `toml:"match,omitempty"`
	}
)

// literal is a day or a time: TOML writes it without quotes.
type literal string

// MarshalTOML writes it as it is.
func (l literal) MarshalTOML() ([]byte, error) { return []byte(l), nil }

// readFormOne reads a policy of form 1. Keys that it didn't have are errors.
func readFormOne(text []byte) (*formOne, error) {
	p := &formOne{}
	meta, err := toml.Decode(string(text), p)
	if err != nil {
		return nil, err
	}
	if meta.IsDefined("cima_policy") {
		return nil, errors.New("it has cima_policy: only a policy of form 1, which has none, is converted")
	}
	for _, key := range slices.Concat(meta.Undecoded(), meta.Keys()) {
		// The reader takes case variants for the key itself.
		free := slices.Contains(key[:len(key)-1], "match") || slices.Contains(key[:len(key)-1], "launch") || slices.Contains(key[:len(key)-1], "events")
		if !free && (slices.ContainsFunc(meta.Undecoded(), func(k toml.Key) bool { return k.String() == key.String() }) || key[len(key)-1] != strings.ToLower(key[len(key)-1])) {
			return nil, fmt.Errorf("key %q must be one of form 1", key.String())
		}
		if list, ok := listAt(p, key.String()); ok && len(list) == 0 && meta.IsDefined(key...) {
			return nil, fmt.Errorf("%s must not be empty: it allowed nothing, so nothing was trusted", key)
		}
	}
	return p, nil
}

// listAt are the lists that have a default, or another meaning, where they are absent.
func listAt(p *formOne, key string) ([]string, bool) {
	of := map[string][]string{"tcb.statuses": p.TCB.Statuses, "agent.anchors": p.Agent.Anchors, "container.start": p.Container.Start,
		"container.source": p.Container.Source, "container.execs": p.Container.Execs, "container.exec_verity": p.Container.ExecVerity}
	if key == "container.cgroup_owner" {
		return make([]string, len(p.Container.CgroupOwner)), true
	}
	list, ok := of[key]
	return list, ok
}

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
		c.to.Waive = append(c.to.Waive, policy.Anchor)
	}
	if a.AllowPrivate {
		c.to.Waive = append(c.to.Waive, policy.Private)
	}
	if a.AllowNewKey {
		c.to.Waive = append(c.to.Waive, policy.AgentKey)
	}
}

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
		to.Waive = []string{policy.Start}
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
