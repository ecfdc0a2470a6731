// Package policydiff answers: whom does one policy trust that another does not?
//
// It compares two policies by meaning, for whoever reviews a change: each change says
// whether more is trusted now, less, or something else. Order, comments and names that
// only the file knows don't count.
package policydiff

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/hw/verify/policy"
)

// Effect is what a change does to what is trusted.
type Effect string

// All effects.
const (
	More  Effect = "more"  // something is trusted now that wasn't
	Less  Effect = "less"  // something is trusted no more
	Other Effect = "other" // something else is trusted than before
	Words Effect = "words" // the same is trusted; only people see it
)

// Change is one difference between two policies.
type Change struct {
	Effect Effect `json:"effect"`
	Where  string `json:"where"` // a table: [tcb], [image.web], [[container]] "front"
	What   string `json:"what"`  // in words
}

// Diff compares the policies of two files' texts. It fails where one is no policy.
func Diff(oldName string, oldText []byte, newName string, newText []byte) ([]Change, error) {
	before, err := read(oldName, oldText)
	if err != nil {
		return nil, err
	}
	now, err := read(newName, newText)
	if err != nil {
		return nil, err
	}
	d := &differ{}
	all := maps.Clone(before)
	maps.Copy(all, now)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		d.part(key, before, now)
	}
	return d.changes, nil
}

// read checks that the text is a policy, and returns its tables.
func read(name string, text []byte) (map[string]any, error) {
	if _, err := policy.Parse(name, text); err != nil {
		return nil, err
	}
	var t map[string]any
	if _, err := toml.Decode(string(text), &t); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// differ collects changes.
type differ struct{ changes []Change }

func (d *differ) note(effect Effect, where, what string, args ...any) {
	d.changes = append(d.changes, Change{effect, where, fmt.Sprintf(what, args...)})
}

// part compares what two policies have under a key: a table, tables, or a value.
func (d *differ) part(key string, before, now map[string]any) {
	switch key {
	case "firmware", "system", "measured", "vtpm", "image":
		d.named(key, object(before[key]), object(now[key]))
	case "boot", "container":
		d.named(key, byName(before[key]), byName(now[key]))
	case "required", "forbidden", "revoked", "reference":
		d.rules(key, array(before[key]), array(now[key]))
	default:
		_, was := before[key].(map[string]any)
		_, is := now[key].(map[string]any)
		if was || is {
			d.single(key, before, now)
			return
		}
		d.keys("the policy", "", only(before, key), only(now, key))
	}
}

// only is a table with one key of another, where that has it.
func only(t map[string]any, key string) map[string]any {
	out := make(map[string]any)
	if v, ok := t[key]; ok {
		out[key] = v
	}
	return out
}

// single compares a table that is there once, or not.
func (d *differ) single(name string, before, now map[string]any) {
	old, oldThere := before[name]
	new, newThere := now[name]
	where := "[" + name + "]"
	if name == "host" && oldThere != newThere {
		if newThere {
			d.note(More, where, "processes of the host can be trusted: %s", spell(new))
		} else {
			d.note(Less, where, "no process of the host is trusted any more")
		}
		return
	}
	if name == "snp" {
		old, new = withLevels(object(old)), withLevels(object(new))
	}
	if name == "tcb" {
		old, new = withGrace(object(old), object(new)), withGrace(object(new), object(old))
	}
	d.keys(where, name, object(old), object(new))
}

// withLevels is a table [snp] in which each part of min_tcb is a key of its own.
func withLevels(t map[string]any) map[string]any {
	flat := maps.Clone(t)
	delete(flat, "min_tcb")
	for line, parts := range object(t["min_tcb"]) {
		for part, least := range object(parts) {
			flat["min_tcb."+line+"."+part] = least
		}
	}
	return flat
}

// withGrace is a table [tcb] with the grace that the quoting enclave has, where one of two
// tables says it: without qe_grace it is the platform's.
func withGrace(t, other map[string]any) map[string]any {
	_, said := other["qe_grace"]
	grace, given := t["grace"]
	if _, has := t["qe_grace"]; has || !said || !given {
		return t
	}
	t = maps.Clone(t)
	t["qe_grace"] = grace
	return t
}

// named compares tables with names. One that has another name and the same content is
// the same: it is only told.
func (d *differ) named(kind string, before, now map[string]any) {
	gone, come := missing(before, now), missing(now, before)
	for _, name := range gone {
		if i := slices.IndexFunc(come, func(other string) bool { return same(nameless(before[name]), nameless(now[other])) }); i >= 0 {
			d.note(Words, title(kind, name), "is called %q now", come[i])
			come = slices.Delete(come, i, i+1)
			continue
		}
		d.note(Less, title(kind, name), "is gone: %s", spell(before[name]))
	}
	for _, name := range come {
		d.note(More, title(kind, name), "is new: %s", spell(now[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if other, ok := now[name]; ok {
			d.keys(title(kind, name), kind, object(before[name]), object(other))
		}
	}
}

// rules compares tables that have no names. More of them, and less is trusted; a
// reference allows nothing.
func (d *differ) rules(kind string, before, now []any) {
	less, more := Less, More
	if kind == "reference" {
		less, more = Words, Words
	}
	where := "[[" + kind + "]]"
	for _, r := range without(now, before) {
		d.note(less, where, "is new: %s", spell(r))
	}
	for _, r := range without(before, now) {
		d.note(more, where, "is gone: %s", spell(r))
	}
}

func title(kind, name string) string {
	if kind == "boot" || kind == "container" {
		return fmt.Sprintf("[[%s]] %q", kind, name)
	}
	if strings.ContainsAny(name, ". ") {
		name = fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("[%s.%s]", kind, name)
}
