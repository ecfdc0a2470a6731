package match

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/hw/verify/tables"
)

// answer is whether a value meets a comparison.
type answer int

const (
	no answer = iota
	unknown
	yes
)

// so answers what is known.
func so(meets bool) answer {
	if meets {
		return yes
	}
	return no
}

// comparison is what a value of the evidence must be.
type comparison interface {
	meets(got any, work *Meter) answer
	String() string // as messages show it: "any of 1 or 2"
}

// absence is what a value is where nothing is.
type absence struct{}

// unseen is what a value is where the evidence shows a digest alone of what holds it.
type unseen struct{}

// variable is an environment variable as a launch has it (cima-evidence(7), LAUNCH): its
// value, its value's digest, or neither.
type variable map[string]any

type (
	equal   struct{ want any }          // the same value; what is empty is met by nothing too
	members map[string]comparison       // an object: these of its members, others are free
	list    []comparison                // an array: as many elements, each so
	anyOf   []comparison                // one of these
	prefix  string                      // text that begins so
	atMost  int64                       // a number that is there, and no larger
	absent  struct{}                    // nothing
	only    struct{ each []comparison } // an array, each of its elements one of these; an object, its names
)

func (c equal) meets(got any, work *Meter) answer {
	work.Add(1)
	switch got := got.(type) {
	case unseen:
		return unknown
	case absence:
		return so(empty(c.want))
	case variable:
		text, isText := c.want.(string)
		return so(isText && got.is(text))
	case map[string]any, []any:
		work.Add(size(c.want)) // alike ends at the first difference
		if holdsUnseen(got, work) {
			return unknown
		}
		return so(alike(c.want, got))
	}
	return so(same(c.want, got))
}

// holdsUnseen reports whether something in a value is not shown.
func holdsUnseen(v any, work *Meter) bool {
	work.Add(1)
	switch v := v.(type) {
	case unseen:
		return true
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return holdsUnseen(e, work) })
	case map[string]any:
		for _, e := range v {
			if holdsUnseen(e, work) {
				return true
			}
		}
	}
	return false
}

// alike compares a whole value, of which every member must be named. A variable is met as
// it is by its name alone: by its value, or the digest of that.
func alike(want, got any) bool {
	switch got := got.(type) {
	case variable:
		if text, isText := want.(string); isText {
			return got.is(text)
		}
		return alike(want, map[string]any(got))
	case map[string]any:
		object, ok := want.(map[string]any)
		if !ok || len(object) != len(got) {
			return false
		}
		for name, v := range object {
			if one, there := got[name]; !there || !alike(v, one) {
				return false
			}
		}
		return true
	case []any:
		elements, ok := want.([]any)
		return ok && slices.EqualFunc(elements, got, alike)
	}
	return same(want, got)
}

// is reports whether the variable has that value, by its digest where that is all.
func (v variable) is(text string) bool {
	if value, ok := v["value"]; ok {
		return value == text
	}
	sum := sha512.Sum384([]byte(text))
	return v["sha384"] == hex.EncodeToString(sum[:])
}

// same compares two scalars. Numbers that a double doesn't hold are text in evidence.
func same(want, got any) bool {
	number, isNumber := want.(float64)
	if text, isText := got.(string); isNumber && isText {
		return text == strconv.FormatFloat(number, 'f', -1, 64)
	}
	if exact, ok := want.(big); ok {
		return got == string(exact)
	}
	return want == got
}

// big is a whole number that a double doesn't hold.
type big string

func empty(v any) bool {
	switch v := v.(type) {
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return v == false || v == "" // a number is never left out: 0 is not the same as absent
}

func (c members) meets(got any, work *Meter) answer {
	object, ok := asObject(got)
	if _, hidden := got.(unseen); hidden {
		return unknown
	}
	if !ok {
		return no
	}
	least := yes
	for name, one := range c {
		work.Add(1)
		if least = min(least, one.meets(member(object, name), work)); least == no {
			return no
		}
	}
	return least
}

// asObject is an object; what is absent has no members.
func asObject(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case variable:
		return v, true
	case absence:
		return nil, true
	}
	return nil, false
}

func member(object map[string]any, name string) any {
	if v, ok := object[name]; ok {
		return v
	}
	return absence{}
}

func (c list) meets(got any, work *Meter) answer {
	elements, ok := got.([]any)
	switch got.(type) {
	case absence:
		return so(len(c) == 0)
	case unseen:
		return unknown
	}
	if !ok || len(elements) != len(c) {
		return no
	}
	least := yes
	for i, one := range c {
		work.Add(1)
		if least = min(least, one.meets(elements[i], work)); least == no {
			return no
		}
	}
	return least
}

func (c anyOf) meets(got any, work *Meter) answer { return best(c, got, work) }

// best is how well a value meets one of these.
func best(list []comparison, got any, work *Meter) answer {
	most := no
	for _, one := range list {
		if work.Add(1); most == yes || work.TooMuch() {
			break
		}
		most = max(most, one.meets(got, work))
	}
	return most
}

func (c prefix) meets(got any, work *Meter) answer {
	work.Add(1)
	switch v := got.(type) {
	case unseen:
		return unknown
	case variable:
		if v["value"] == nil && v["sha384"] != nil {
			return unknown
		}
		got = v["value"]
	}
	text, ok := got.(string)
	return so(ok && strings.HasPrefix(text, string(c)))
}

// meets: what is absent has no bound, so it meets none.
func (c atMost) meets(got any, work *Meter) answer {
	work.Add(1)
	switch got := got.(type) {
	case unseen:
		return unknown
	case float64:
		return so(got <= float64(c))
	case string:
		n, err := strconv.ParseInt(got, 10, 64)
		return so(err == nil && n <= int64(c))
	}
	return no
}

func (absent) meets(got any, work *Meter) answer {
	work.Add(1)
	switch got.(type) {
	case unseen:
		return unknown
	case absence:
		return yes
	}
	return no
}

func (c only) meets(got any, work *Meter) answer {
	var each []any
	switch got := got.(type) {
	case absence:
		return yes
	case unseen:
		return unknown
	case []any:
		each = got
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(got)) {
			each = append(each, name)
		}
	default:
		return no
	}
	least := yes
	for _, v := range each {
		if least = min(least, best(c.each, v, work)); least == no {
			return no
		}
	}
	return least
}

func (c equal) String() string   { return inJSON(c.want) }
func (c prefix) String() string  { return fmt.Sprintf("text that begins with %q", string(c)) }
func (c atMost) String() string  { return fmt.Sprintf("at most %d", int64(c)) }
func (absent) String() string    { return "nothing" }
func (c anyOf) String() string   { return tables.Or(c) }
func (c only) String() string    { return "each " + tables.Or(c.each) }
func (c list) String() string    { return "[" + strings.Join(texts(c), ", ") + "]" }
func (c members) String() string { return "{" + strings.Join(slices.Sorted(maps.Keys(c)), ", ") + "}" }

// size counts the values in one.
func size(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += size(e)
		}
	case map[string]any:
		for _, e := range v {
			n += size(e)
		}
	}
	return n
}

// asWritten makes one text of equal values.
var asWritten = json.JoinOptions(json.Deterministic(true), jsontext.AllowInvalidUTF8(true))

func inJSON(v any) string {
	switch v.(type) {
	case absence:
		return "nothing"
	case unseen:
		return "not shown, for it is too large"
	}
	text, err := json.Marshal(v, asWritten)
	if err != nil {
		return tables.Clip(fmt.Sprint(v))
	}
	return tables.Clip(string(text))
}

// plain turns a TOML value into what JSON's would be; false where none is.
func plain(v any) (any, bool) {
	switch v := v.(type) {
	case string, bool:
		return v, true
	case int64:
		if v > 1<<53 || v < -1<<53 {
			return big(strconv.FormatInt(v, 10)), true
		}
		return float64(v), true
	case []map[string]any:
		return plain(slices.AppendSeq([]any{}, func(yield func(any) bool) {
			for _, one := range v {
				if !yield(any(one)) {
					return
				}
			}
		}))
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var ok bool
			if out[i], ok = plain(e); !ok {
				return nil, false
			}
		}
		return out, true
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			var ok bool
			if out[name], ok = plain(v[name]); !ok {
				return nil, false
			}
		}
		return out, true
	}
	return nil, false
}

func texts(list []comparison) (texts []string) {
	for _, c := range list {
		texts = append(texts, c.String())
	}
	return texts
}
