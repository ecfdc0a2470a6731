// Package match answers: are the facts of an event as a policy wants them?
//
// A match is a tree of comparisons (cima-policy(5), MATCH) over members of a JSON object.
// Each comparison of a policy is judged once for a document, however many alternatives
// have it, and counts what it costs.
package match

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs/canonical"
)

// leaf is one comparison of a match: what stands at a path of the evidence. Equal leaves
// of a policy are one, and judged once.
type leaf struct {
	path []string
	comparison
}

// Match is what a policy wants of launch, image, claims or an event: all its leaves.
type Match []*leaf

// Leaves are the leaves of a policy, by path and comparison.
type Leaves map[string]*leaf

// Read reads the key match of a table. known are the names that it can have at its top, and
// below some of them: an unknown one would match nothing, and forbid nothing.
func Read(t *tables.Table, known Names, seen Leaves) Match {
	v, there := t.Take("match")
	values, isTable := v.(map[string]any)
	if there && !isTable {
		t.Bad("match", "a table")
	}
	r := &reader{Table: t, seen: seen}
	r.members(nil, values, known)
	return r.found
}

// Names are the members of an object, and theirs; nil where any name can be.
type Names map[string]Names

// NamesOf are names below which any name can be.
func NamesOf(list ...string) Names {
	n := make(Names)
	for _, name := range list {
		n[name] = nil
	}
	return n
}

type reader struct {
	*tables.Table
	seen  Leaves
	found Match
}

func (r *reader) place(path []string) string {
	parts := []any{r.At("match")}
	for _, name := range path {
		parts = append(parts, name)
	}
	return tables.Path(parts...)
}

func (r *reader) members(path []string, values map[string]any, known Names) {
	for _, name := range sortedKeys(values) {
		at := append(slices.Clone(path), name)
		below, ok := known[name]
		if known != nil && !ok {
			r.Fault(r.place(at), "%s: match has no member %q%s", r.Title, strings.Join(at, "."), tables.Near(name, sortedKeys(known)))
			continue
		}
		if values, isTable := values[name].(map[string]any); isTable && comparatorOf(values) == "" && len(values) > 0 {
			r.members(at, values, below)
			continue
		}
		if c := r.comparison(at, values[name]); c != nil {
			r.add(at, c, values[name])
		}
	}
}

// add adds a leaf, the same one for the same.
func (r *reader) add(path []string, c comparison, v any) {
	form, err := canonical.Marshal([]any{path, v})
	l := &leaf{path, c}
	if err == nil {
		if known := r.seen[string(form)]; known != nil {
			l = known
		}
		r.seen[string(form)] = l
	}
	r.found = append(r.found, l)
}

// comparatorOf is the comparison that a table stands for, "" where it stands for itself.
func comparatorOf(values map[string]any) string {
	if len(values) != 1 {
		return ""
	}
	for name, v := range values {
		_, isText := v.(string)
		_, isNumber := v.(int64)
		switch name {
		case "equal":
			return name
		case "any", "only":
			if _, ok := asList(v); ok {
				return name
			}
		case "prefix":
			if isText {
				return name
			}
		case "at_most":
			if isNumber {
				return name
			}
		case "absent":
			if v == true {
				return name
			}
		}
	}
	return ""
}

func asList(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case []map[string]any:
		var list []any
		for _, one := range v {
			list = append(list, one)
		}
		return list, true
	}
	return nil, false
}

// comparison compiles a value; nil where it can be none.
func (r *reader) comparison(path []string, v any) comparison {
	if len(path) > tables.MaxNesting {
		r.Fault(r.place(path), "%s: match must nest at most %d deep", r.Title, tables.MaxNesting)
		return nil
	}
	if elements, ok := asList(v); ok {
		return list(r.each(path, elements))
	}
	values, isTable := v.(map[string]any)
	if !isTable || len(values) == 0 {
		return r.equal(path, v)
	}
	kind := comparatorOf(values)
	switch one := values[kind].(type) {
	case string:
		if kind == "prefix" {
			return prefix(one)
		}
	case int64:
		if kind == "at_most" {
			return atMost(one)
		}
	}
	switch elements, _ := asList(values[kind]); kind {
	case "equal":
		return r.equal(path, values[kind])
	case "any":
		return anyOf(r.each(path, elements))
	case "only":
		return only{r.each(path, elements)}
	case "absent":
		return absent{}
	}
	found := make(members)
	for _, name := range sortedKeys(values) {
		found[name] = r.comparison(append(slices.Clone(path), name), values[name])
	}
	return found
}

func (r *reader) each(path []string, elements []any) (found []comparison) {
	for i, one := range elements {
		if c := r.comparison(append(slices.Clone(path), fmt.Sprint(i)), one); c != nil {
			found = append(found, c)
		}
	}
	return found
}

func (r *reader) equal(path []string, v any) comparison {
	want, ok := plain(v)
	if !ok {
		r.Fault(r.place(path), "%s: match.%s must be text, a whole number, true, false, an array or a table", r.Title, strings.Join(path, "."))
		return nil
	}
	return equal{want}
}

// On reports whether a comparison of the match is of what stands at a path, or in it.
func (m Match) On(path ...string) bool {
	return slices.ContainsFunc(m, func(l *leaf) bool { return len(l.path) >= len(path) && slices.Equal(l.path[:len(path)], path) })
}

// String is the match as people read it.
func (m Match) String() string {
	words := make([]string, len(m))
	for i, l := range m {
		words[i] = fmt.Sprintf("%s = %s", strings.Join(l.path, "."), l.comparison)
	}
	return strings.Join(words, " ")
}

func sortedKeys[T any](of map[string]T) []string { return slices.Sorted(maps.Keys(of)) }
