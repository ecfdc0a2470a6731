package match

import (
	"maps"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/hw/verify/tables"
)

// Places are where the mounts of a container's first process lead, of those that lead to
// another place than the text of their source says (cima-evidence(7), mounted).
type Places struct {
	Hidden bool // there are some that the log doesn't show

	by map[string][]any // by destination, in JSON
}

// Add notes a mount's place. Both are strings, or objects of bytes that are not UTF-8.
func (p *Places) Add(destination, place any) {
	if p.by == nil {
		p.by = make(map[string][]any)
	}
	p.by[inJSON(destination)] = append(p.by[inJSON(destination)], place)
}

// Any reports whether a mount leads elsewhere, or may.
func (p *Places) Any() bool { return p.Hidden || len(p.by) > 0 }

// maxPlaces is how many places a sentence names.
const maxPlaces = 5

// Words says which mounts lead elsewhere; "" where none does.
func (p *Places) Words() string {
	if p.Hidden {
		return "there are too many of them to be shown"
	}
	var words []string
	for _, destination := range slices.Sorted(maps.Keys(p.by)) {
		for _, place := range p.by[destination] {
			if len(words) == maxPlaces {
				return strings.Join(words, ", ") + ", …"
			}
			words = append(words, tables.Clip(destination)+" is "+inJSON(place))
		}
	}
	return strings.Join(words, ", ")
}

// Launch makes of a launch event's body what a match is held against: variables by their
// names, and mounts with the place to which they lead.
func Launch(launch map[string]any, places *Places) {
	asked, _ := launch["asked"].(map[string]any)
	if asked == nil {
		return
	}
	if list, ok := asked["environment"].([]any); ok {
		if byName := variables(list); byName != nil {
			asked["environment"] = byName
		}
	}
	mounts, _ := asked["mounts"].([]any)
	for i, m := range mounts {
		mounts[i] = mount(m, places)
	}
}

// variables are those of a list by their names; nil where a name is there twice: then no
// match by a name is met.
func variables(list []any) map[string]any {
	byName := make(map[string]any, len(list))
	for _, one := range list {
		v, _ := one.(map[string]any)
		name, isText := v["name"].(string)
		if byName[name] != nil || !isText {
			return nil
		}
		rest := make(variable, len(v))
		for k, value := range v {
			if k != "name" {
				rest[k] = value
			}
		}
		byName[name] = rest
	}
	return byName
}

// mount puts the place of a mount into its source's place, where it leads elsewhere. A
// mount with a member that no policy can name could mean anything.
func mount(m any, places *Places) any {
	object, ok := m.(map[string]any)
	if !ok {
		return unseen{}
	}
	for name := range object {
		if !slices.Contains(launches.MountMembers, name) {
			return unseen{}
		}
	}
	if object["source"] == nil {
		return object
	}
	switch elsewhere := places.by[inJSON(object["destination"])]; {
	case places.Hidden || len(elsewhere) > 1: // which of them is it?
		object["source"] = unseen{}
	case len(elsewhere) == 1:
		delete(object, "source")
		object["place"] = elsewhere[0]
	}
	return object
}
