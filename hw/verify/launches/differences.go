package launches

import (
	"cmp"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/cima-project/cima/logs/canonical"
)

// Measured is a launch with its image: all that a launch digest is over.
type Measured struct {
	*Launch
	Image Image
}

// Digest is the launch digest.
func (m Measured) Digest() (canonical.Digest, error) { return m.Launch.digest(m.Image) }

// Difference is one fact that two launches don't share. Values are JSON, "" where there
// is none.
type Difference struct {
	fact string // its path: "asked.mounts[/data].source"
	want string
	got  string
}

// Against lists the facts of the launch digest that got has otherwise, each once and by
// their paths. Launches of different digests differ in one at least.
func (m Measured) Against(got Measured) []Difference {
	var found differences
	found.compare("source", m.Source, got.Source)
	found.compare("cgroup_owner", m.CgroupOwner, got.CgroupOwner)
	found.image(m, got)
	found.part("asked", m.Asked, got.Asked, m.AskedDigest, got.AskedDigest)
	return found
}

// DefaultsAgainst is Against for the defaults digest.
func (m Measured) DefaultsAgainst(got Measured) []Difference {
	var found differences
	found.part("defaults", m.defaults, got.defaults, m.DefaultsDigest, got.DefaultsDigest)
	return found
}

// Facts lists what the launch digest is over, as Against would against a launch that
// asks for nothing.
func (m Measured) Facts() []Difference {
	var found differences
	found.compare("source", none{}, m.Source)
	found.compare("cgroup_owner", none{}, m.CgroupOwner)
	name, value := m.identity(m.Image)
	found.compare("image."+name, none{}, value)
	found.part("asked", jsontext.Value("{}"), m.Asked, canonical.Digest{}, m.AskedDigest)
	return found
}

// DefaultsFacts lists what the defaults digest is over.
func (m Measured) DefaultsFacts() []Difference {
	var found differences
	found.part("defaults", jsontext.Value("{}"), m.defaults, canonical.Digest{}, m.DefaultsDigest)
	return found
}

type differences []Difference

func (d *differences) image(want, got Measured) {
	wantName, wantValue := want.identity(want.Image)
	gotName, gotValue := got.identity(got.Image)
	if wantName == gotName {
		d.compare("image."+wantName, wantValue, gotValue)
		return
	}
	d.compare("image."+wantName, wantValue, none{})
	d.compare("image."+gotName, none{}, gotValue)
}

// part compares asked or defaults, and by digest where one of both is not shown.
func (d *differences) part(name string, want, got jsontext.Value, wantDigest, gotDigest canonical.Digest) {
	switch {
	case wantDigest == gotDigest:
	case want == nil || got == nil:
		d.compare(name, facts(want, wantDigest), facts(got, gotDigest))
	default:
		d.compare(name, decoded(want), decoded(got))
	}
}

// facts describes asked or defaults as a whole.
func facts(shown jsontext.Value, digest canonical.Digest) string {
	if digest == (canonical.Digest{}) {
		return "not known"
	}
	if shown == nil {
		return "not shown, SHA-384 " + digest.String()
	}
	return "SHA-384 " + digest.String()
}

// compare descends where both have members or named elements.
func (d *differences) compare(path string, want, got any) {
	if reflect.DeepEqual(want, got) {
		return
	}
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			for _, name := range union(want, got, cmp.Compare[string]) {
				d.compare(path+"."+name, member(want, name), member(got, name))
			}
			return
		}
	case []any:
		if got, ok := got.([]any); ok && d.elements(path, want, got) {
			return
		}
	}
	*d = append(*d, Difference{path, inJSON(want), inJSON(got)})
}

// elements compares lists without an order by what names their elements. It returns
// false where an element has no name.
func (d *differences) elements(path string, want, got []any) bool {
	wantNamed, ok := byName(want)
	if !ok {
		return false
	}
	gotNamed, ok := byName(got)
	if !ok {
		return false
	}
	for _, e := range union(wantNamed, gotNamed, element.compare) {
		d.compare(path+e.String(), member(wantNamed, e), member(gotNamed, e))
	}
	return true
}

// element names one element of a list: the first of its name is number 1.
type element struct {
	name   string
	number int
}

func (e element) String() string {
	if e.number == 1 {
		return "[" + e.name + "]"
	}
	return fmt.Sprintf("[%s, number %d]", e.name, e.number)
}

func (e element) compare(other element) int {
	return cmp.Or(cmp.Compare(e.name, other.name), cmp.Compare(e.number, other.number))
}

// naming are the members that name an element: of mounts, of the environment, of
// devices. Hooks have paths too, but their order counts, and a stage tells them apart.
var naming = []string{"destination", "name", "path"}

func byName(list []any) (named map[element]any, ok bool) {
	named = make(map[element]any, len(list))
	count := make(map[string]int, len(list))
	for _, e := range list {
		object, _ := e.(map[string]any)
		if object == nil || object["stage"] != nil {
			return nil, false
		}
		at := slices.IndexFunc(naming, func(name string) bool { return object[name] != nil })
		if at < 0 {
			return nil, false
		}
		name, isText := object[naming[at]].(string)
		if !isText {
			name = inJSON(object[naming[at]]) // bytes that are not UTF-8
		}
		count[name]++
		named[element{name, count[name]}] = e
	}
	return named, true
}

// union are the keys of both maps in order.
func union[K comparable](a, b map[K]any, compare func(K, K) int) []K {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.SortFunc(keys, compare)
	return slices.Compact(keys)
}

func decoded(value jsontext.Value) (v any) {
	if json.Unmarshal(value, &v) != nil {
		return string(value) // never: it is canonical
	}
	return v
}

// none is what a launch doesn't have: null is a value.
type none struct{}

func member[K comparable](of map[K]any, name K) any {
	if v, ok := of[name]; ok {
		return v
	}
	return none{}
}

func inJSON(v any) string {
	if v == (none{}) {
		return ""
	}
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
