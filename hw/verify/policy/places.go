package policy

import (
	"iter"
	"maps"
	"slices"
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

// Each gives destinations and places in JSON, in order.
func (p *Places) Each() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, destination := range slices.Sorted(maps.Keys(p.by)) {
			for _, place := range p.by[destination] {
				if !yield(destination, inJSON(place)) {
					return
				}
			}
		}
	}
}

// words is said behind a mount that leads elsewhere.
func (p *Places) words(mount map[string]any) string {
	for _, place := range p.by[inJSON(mount["destination"])] {
		return ", which is " + inJSON(place)
	}
	return ""
}

// sourceHolds reports whether a policy that names a mount's source may mean this mount: it
// leads to that place, or to one that the policy names too.
func (p *Places) sourceHolds(mount, want map[string]any) bool {
	if want["source"] == nil && want["place"] == nil {
		return true
	}
	elsewhere := p.by[inJSON(mount["destination"])]
	switch {
	case p.Hidden, len(elsewhere) > 1: // which of them is it?
		return false
	case len(elsewhere) == 1:
		return want["place"] != nil && inJSON(elsewhere[0]) == inJSON(want["place"])
	}
	return want["place"] == nil
}
