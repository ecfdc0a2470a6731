package verify

import (
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
)

// power: which containers could have acted as root of the guest, and so on all
// that was measured?
func power(ev *evidence, opts Options) Step {
	if opts.Policy == nil {
		return skip(noPolicy + ": " + powerWords(ev))
	}
	var f findings
	for i, e := range ev.prefix() {
		if e.event == nil || e.event.Operation != logs.OpPower {
			continue
		}
		classes := powerClasses(e.event)
		allowed := len(classes) > 0
		for _, c := range classes {
			allowed = allowed && opts.Policy.Power.Allows(c)
		}
		f.want(allowed, fmt.Sprintf("power of a container (event %d)", i),
			policy.OneOf(opts.Policy.Power.Allow), strings.Join(classes, ", "))
	}
	if len(f.compared) == 0 {
		return pass(powerWords(ev))
	}
	return f.step("the policy allows the power that containers have")
}

func powerWords(ev *evidence) string {
	var classes []string
	for _, e := range ev.prefix() {
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

// powerClasses are the classes in a power event. Where they can't be read there
// are none, and no policy allows that.
func powerClasses(e *logs.Event) []string {
	var power logs.PowerBody
	if json.Unmarshal(e.Body(), &power) != nil {
		return nil
	}
	return power.Classes
}

// events: the log's anchor and author, and the events that the policy wants
// or forbids.
func events(ev *evidence, keys agentKeys, in *instance, opts Options) Step {
	p := opts.Policy
	if p == nil {
		return skip(noPolicy)
	}
	var f findings
	anchor := ev.claims.Log.Anchor
	f.want(slices.Contains(p.Agent.Anchors, anchor), "anchor", policy.OneOf(p.Agent.Anchors), anchor)
	if ev.private() {
		f.want(p.Agent.AllowPrivate, "view of the log", "one that replays", "private")
	}
	if keys.changed() {
		f.want(p.Agent.AllowNewKey, "agent key", "that of event 0", "a new one after a restart")
	}
	for _, pattern := range p.Required {
		got := holds(ev, in, pattern)
		f.want(got, "event "+pattern.String(), "there", there(got))
	}
	for _, pattern := range p.Forbidden {
		got := shows(ev, in, pattern.MayMatch)
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

// holds reports whether a judged event matches. Of start and policy events the
// last one counts, because it says what is in force.
func holds(ev *evidence, in *instance, p policy.EventPattern) bool {
	if p.Operation != logs.OpStart && p.Operation != logs.OpPolicy {
		return shows(ev, in, p.Matches)
	}
	last := false
	for _, e := range ev.prefix() {
		if e.event != nil && e.event.Operation == p.Operation {
			last = p.Matches(e.event)
		}
	}
	return last
}

// shows reports whether a judged event is such: a public one, or one of the
// container's latest instance.
func shows(ev *evidence, in *instance, such func(*logs.Event) bool) bool {
	for _, e := range ev.prefix() {
		if e.event != nil && e.event.Container == "" && such(e.event) {
			return true
		}
	}
	return in != nil && slices.ContainsFunc(in.events, such)
}
