package policy

import (
	"encoding/json/v2"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/logs/canonical"
)

// Launch is about single facts of a launch event (cima-evidence(7), LAUNCH), for
// containers whose launch digest varies. What is left out is not checked.
type Launch struct {
	Arguments    []string         `toml:"arguments"`    // asked.arguments are exactly these
	Capabilities []string         `toml:"capabilities"` // no others, in any set; [] is none
	Mounts       []map[string]any `toml:"mounts"`       // each of asked.mounts has the members of one of these, and its place, if that isn't its source; [] is none
	Match        map[string]any   `toml:"match"`        // members with these values; of asked and defaults, those that are named
}

// Judge compares a launch, and where its mounts lead, with the policy.
func (p *Launch) Judge(l *launches.Launch, body []byte, places *Places) (found Findings) {
	if l.Asked == nil || l.Defaults == nil {
		found.Want(false, "launch", "its facts", "too large to be shown: only their digests are")
		return found
	}
	var launch map[string]any
	if err := canonical.Decode(body, &launch); err != nil {
		found.Want(false, "launch", "an object", err.Error())
		return found
	}
	asked, _ := launch["asked"].(map[string]any)
	if p.Arguments != nil {
		got, _ := asked["arguments"].([]any)
		found.Want(reflect.DeepEqual(asJSON(p.Arguments), asJSON(orEmpty(got))), "asked.arguments", inJSON(p.Arguments), inJSON(orEmpty(got)))
	}
	if p.Capabilities != nil {
		for _, c := range capabilities(launch) {
			found.Want(slices.Contains(p.Capabilities, c), "capability", OneOf(p.Capabilities), c)
		}
	}
	if p.Mounts != nil {
		p.judgeMounts(&found, asked, places)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Match)) {
		p.judgeMember(&found, launch, name)
	}
	return found
}

// judgeMember judges a member of match: of asked and defaults each member by itself.
func (p *Launch) judgeMember(found *Findings, launch map[string]any, name string) {
	nested, ok := p.Match[name].(map[string]any)
	if nestedMembers[name] == nil || !ok {
		found.Want(has(launch, map[string]any{name: p.Match[name]}), name, inJSON(p.Match[name]), inJSON(launch[name]))
		return
	}
	got, _ := launch[name].(map[string]any)
	for _, member := range slices.Sorted(maps.Keys(nested)) {
		want := nested[member]
		found.Want(has(got, map[string]any{member: want}), name+"."+member, inJSON(want), inJSON(got[member]))
	}
}

func (p *Launch) judgeMounts(found *Findings, asked map[string]any, places *Places) {
	mounts, _ := asked["mounts"].([]any)
	for _, m := range mounts {
		members, _ := m.(map[string]any)
		// A member that no policy can name could mean anything.
		known := members != nil && checkMembers("", members, launches.MountMembers) == nil
		fits := known && slices.ContainsFunc(p.Mounts, func(want map[string]any) bool {
			asked := maps.Clone(want)
			delete(asked, "place")
			return has(members, asked) && places.sourceHolds(members, want)
		})
		found.Want(fits, "mount", "one of the policy's", inJSON(m)+places.words(members))
	}
}

func orEmpty(list []any) []any {
	if list == nil {
		return []any{}
	}
	return list
}

// capabilities are those that a container has in any set: the engine's defaults, and
// what was added. What can't be read is no capability that a policy can name.
func capabilities(launch map[string]any) []string {
	var all []string
	for _, part := range []string{"asked", "defaults"} {
		members, _ := launch[part].(map[string]any)
		sets, ok := members["capabilities"].(map[string]any)
		if !ok && members["capabilities"] != nil {
			all = append(all, "what can't be read in "+part)
		}
		for name, set := range sets {
			if part == "asked" && name == "dropped" {
				continue
			}
			list, ok := set.([]any)
			if !ok {
				all = append(all, "what can't be read in "+name)
			}
			for _, c := range list {
				all = append(all, fmt.Sprint(c))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func inJSON(v any) string {
	text, err := json.Marshal(v, asWritten)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// check refuses names that no launch has.
func (p *Launch) check() error {
	for _, c := range p.Capabilities {
		if !strings.HasPrefix(c, "CAP_") || c != strings.ToUpper(c) {
			return fmt.Errorf("container.launch.capabilities: %q must be written as CAP_NET_RAW is", c)
		}
	}
	if err := checkLaunchMembers("container.launch.match: a launch", p.Match); err != nil {
		return err
	}
	for _, m := range p.Mounts {
		if err := checkMembers("container.launch.mounts: a mount", m, append(slices.Clone(launches.MountMembers), "place")); err != nil {
			return err
		}
		if _, ok := m["destination"]; !ok {
			return fmt.Errorf("container.launch.mounts: each must have a destination")
		}
	}
	return nil
}
