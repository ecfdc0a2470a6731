package policy

import (
	"encoding/json/v2"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/logs"
)

// Launch is about single members of a launch event (cima-evidence(7), LAUNCH), for
// containers whose launch digest varies. What is left out is not checked.
type Launch struct {
	Arguments    []string         `toml:"arguments"`    // exactly these
	Capabilities []string         `toml:"capabilities"` // no others, in any set; [] is none
	Mounts       []map[string]any `toml:"mounts"`       // each mount has the members of one of these; [] is none
	Match        map[string]any   `toml:"match"`        // members with these values
}

// Judge compares the body of a launch event, which is JSON, with the policy.
func (p *Launch) Judge(launch []byte) (found Findings) {
	var body map[string]any
	if err := canonical.Decode(launch, &body); err != nil {
		found.Want(false, "launch", "an object", err.Error())
		return found
	}
	if digest, ok := body[whole]; ok {
		found.Want(false, "launch", "its facts", fmt.Sprintf("too large to be shown: only its digest is, %v", digest))
		return found
	}
	if p.Arguments != nil {
		got, _ := body["arguments"].([]any)
		found.Want(reflect.DeepEqual(asJSON(p.Arguments), asJSON(orEmpty(got))), "arguments", inJSON(p.Arguments), inJSON(orEmpty(got)))
	}
	if p.Capabilities != nil {
		for _, c := range capabilities(body) {
			found.Want(slices.Contains(p.Capabilities, c), "capability", OneOf(p.Capabilities), c)
		}
	}
	if p.Mounts != nil {
		p.judgeMounts(&found, body)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Match)) {
		want := p.Match[name]
		found.Want(has(body, map[string]any{name: want}), name, inJSON(want), inJSON(body[name]))
	}
	return found
}

func (p *Launch) judgeMounts(found *Findings, body map[string]any) {
	mounts, _ := body["mounts"].([]any)
	for _, m := range mounts {
		members, _ := m.(map[string]any)
		fits := slices.ContainsFunc(p.Mounts, func(want map[string]any) bool { return members != nil && has(members, want) })
		found.Want(fits, "mount", "one of the policy's", inJSON(m))
	}
}

func orEmpty(list []any) []any {
	if list == nil {
		return []any{}
	}
	return list
}

// capabilities are those of all sets of a launch.
func capabilities(body map[string]any) []string {
	var all []string
	sets, _ := body["capabilities"].(map[string]any)
	for name, set := range sets {
		list, ok := set.([]any)
		if !ok {
			all = append(all, "what can't be read in "+name)
		}
		for _, c := range list {
			all = append(all, fmt.Sprint(c))
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
	if err := checkMembers("container.launch.match: a launch", p.Match, measuredMembers[logs.OpLaunch]); err != nil {
		return err
	}
	for _, m := range p.Mounts {
		if err := checkMembers("container.launch.mounts: a mount", m, mountMembers); err != nil {
			return err
		}
		if _, ok := m["destination"]; !ok {
			return fmt.Errorf("container.launch.mounts: each must have a destination")
		}
	}
	return nil
}
