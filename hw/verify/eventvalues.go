package verify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
)

// power: which containers could have acted as root of the guest, and so on
// all that was measured?
func (a *appraisal) power() Step {
	if a.opts.Policy == nil {
		return skip(noPolicy + ": " + a.powerWords())
	}
	var f findings
	for i, e := range a.prefix() {
		if e.event == nil || e.event.Operation != logs.OpPower {
			continue
		}
		classes := powerClasses(e.event)
		allowed := len(classes) > 0
		for _, c := range classes {
			allowed = allowed && slices.Contains(a.opts.Policy.Power.Allow, c)
		}
		f.want(allowed, fmt.Sprintf("power of a container (event %d)", i),
			oneOf(a.opts.Policy.Power.Allow), strings.Join(classes, ", "))
	}
	if len(f.compared) == 0 {
		return pass(a.powerWords())
	}
	return f.step("the policy allows the power that containers have")
}

func (a *appraisal) powerWords() string {
	var classes []string
	for _, e := range a.prefix() {
		if e.event != nil && e.event.Operation == logs.OpPower {
			classes = append(classes, powerClasses(e.event)...)
		}
	}
	if len(classes) == 0 {
		return "the log knows of no container that could act as root of the guest"
	}
	slices.Sort(classes)
	return "containers could act as root of the guest: " + strings.Join(slices.Compact(classes), ", ")
}

// powerClasses are the classes in a power event; none where they can't be
// read, and then nothing allows it.
func powerClasses(e *logs.Event) []string {
	var power struct {
		Classes []string `json:"classes"`
	}
	if json.Unmarshal(e.Body(), &power) != nil {
		return nil
	}
	return power.Classes
}

// events: the log's anchor and author, and the events that the policy wants
// or forbids.
func (a *appraisal) events() Step {
	p := a.opts.Policy
	if p == nil {
		return skip(noPolicy)
	}
	var f findings
	anchor := a.claims.Log.Anchor
	f.want(slices.Contains(p.Agent.Anchors, anchor), "anchor", oneOf(p.Agent.Anchors), anchor)
	if a.private() {
		f.want(p.Agent.AllowPrivate, "view of the log", "one that replays", "private")
	}
	if a.newKey() {
		f.want(p.Agent.AllowNewKey, "agent key", "that of event 0", "a new one after a restart")
	}
	for _, pattern := range p.Required {
		got := a.holds(pattern)
		f.want(got, "event "+pattern.String(), "there", there(got))
	}
	for _, pattern := range p.Forbidden {
		got := a.any(pattern.mayMatch)
		f.want(!got, "event "+pattern.String(), "not there", there(got))
	}
	return f.step("the log is as the policy wants it")
}

func there(yes bool) string {
	if yes {
		return "there"
	}
	return "not there"
}

// holds says whether a judged event matches; of starts and policies the last one,
// for it says what is in force.
func (a *appraisal) holds(p EventPattern) bool {
	if p.Operation != logs.OpStart && p.Operation != logs.OpPolicy {
		return a.any(p.matches)
	}
	last := false
	for _, e := range a.prefix() {
		if e.event != nil && e.event.Operation == p.Operation {
			last = p.matches(e.event)
		}
	}
	return last
}

// any says whether a judged event is such: a public one, or one of the
// container's latest instance.
func (a *appraisal) any(such func(*logs.Event) bool) bool {
	for _, e := range a.prefix() {
		if e.event != nil && e.event.Container == "" && such(e.event) {
			return true
		}
	}
	if a.instance != nil {
		return slices.ContainsFunc(a.instance.events, such)
	}
	return false
}

// mayMatch: a launch that is too large to be shown could be any.
func (p EventPattern) mayMatch(e *logs.Event) bool {
	if p.matches(e) {
		return true
	}
	var body map[string]any
	if e.Operation != p.Operation || json.Unmarshal(e.Body(), &body) != nil {
		return false
	}
	return e.Operation == logs.OpLaunch && body[whole] != nil
}

func (p EventPattern) matches(e *logs.Event) bool {
	if e.Operation != p.Operation {
		return false
	}
	if len(p.Match) == 0 {
		return true
	}
	var body map[string]any
	if json.Unmarshal(e.Body(), &body) != nil {
		return false
	}
	return has(body, p.Match)
}

// asJSON is a TOML value as JSON decodes to.
func asJSON(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var out any
	if json.Unmarshal(text, &out) != nil {
		return nil
	}
	return out
}

// String is the pattern as people read it.
func (p EventPattern) String() string {
	if len(p.Match) == 0 {
		return p.Operation
	}
	text, err := json.Marshal(p.Match)
	if err != nil {
		return p.Operation
	}
	return p.Operation + " " + string(text)
}
