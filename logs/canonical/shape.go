package canonical

import (
	"encoding"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// A shape is what a Go type wants of the JSON that is read into it.
type shape struct {
	kind     kind
	open     bool
	members  []field // of a struct
	required uint64  // which of them must be there, a bit each
	element  *shape  // of an array or a map
	limits   *Limits // nil: none
	words    []string
}

// Limits are the tag within:"8..64" of a struct's field: what a number must be, how
// many bytes a string has, or []byte behind base64, or how many elements a list has.
type Limits struct{ Min, Max int64 }

// LimitsOf reads the tag of a field, nil where it has none. Without an upper limit
// ("1..") Max is the largest int64.
func LimitsOf(tag reflect.StructTag) *Limits {
	text, ok := tag.Lookup("within")
	if !ok {
		return nil
	}
	low, high, _ := strings.Cut(text, "..")
	limits := Limits{Max: math.MaxInt64}
	var err error
	if limits.Min, err = strconv.ParseInt(low, 10, 64); err == nil && high != "" {
		limits.Max, err = strconv.ParseInt(high, 10, 64)
	}
	if err != nil {
		panic("tag within: " + err.Error()) // at the first use of the type
	}
	return &limits
}

// WordsOf reads the tag oneof:"tea coffee" of a string field: what it may be, nil
// where it has none.
func WordsOf(tag reflect.StructTag) []string {
	text, ok := tag.Lookup("oneof")
	if !ok {
		return nil
	}
	return strings.Fields(text)
}

type field struct {
	name  string
	shape *shape
}

// A kind is a kind of JSON value, narrower than JSON's own.
type kind byte

const (
	whatever kind = iota
	object
	dictionary // an object with any members
	array
	text
	base64Text
	integer
	number
	boolean
)

var anything = &shape{}

// must says what a value of that shape must be.
func (s *shape) must() string {
	switch s.kind {
	case object, dictionary:
		return "must be an object"
	case array:
		return "must be an array"
	case text:
		return "must be a string"
	case base64Text:
		return "must be standard base64 with padding"
	case integer:
		if s.limits != nil {
			return fmt.Sprintf("must be a whole number from %d to %d", s.limits.Min, s.limits.Max)
		}
		return "must be a whole number"
	case number:
		return "must be a number"
	case boolean:
		return "must be true or false"
	}
	return ""
}

// admits reports whether a value of JSON's kind can be of this kind.
func (k kind) admits(json jsontext.Kind) bool {
	switch k {
	case object, dictionary:
		return json == jsontext.KindBeginObject
	case array:
		return json == jsontext.KindBeginArray
	case text, base64Text:
		return json == jsontext.KindString
	case integer, number:
		return json == jsontext.KindNumber
	case boolean:
		return json == jsontext.KindTrue || json == jsontext.KindFalse
	}
	return true
}

// shapes remembers shapeOf by reflect.Type: a type has one shape, for good.
var shapes sync.Map

// shapeOfAll is the shape of an object that has the members of them all.
func shapeOfAll(v []any) *shape {
	first := shapeOf(reflect.TypeOf(v[0]))
	if len(v) == 1 {
		return first
	}
	all := shape{kind: object, open: true}
	for _, v := range v {
		s := shapeOf(reflect.TypeOf(v))
		all.open = all.open && s.open
		all.required |= s.required << len(all.members)
		all.members = append(all.members, s.members...)
	}
	return &all
}

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := newShape(t)
	shapes.Store(t, s)
	return s
}

func newShape(t reflect.Type) *shape {
	switch p := reflect.PointerTo(t); {
	case t.Kind() == reflect.Pointer:
		return shapeOf(t.Elem())
	case implements[json.Unmarshaler](p) || implements[json.UnmarshalerFrom](p):
		return anything
	case implements[encoding.TextUnmarshaler](p):
		return &shape{kind: text}
	}
	switch t.Kind() {
	case reflect.Struct:
		return shapeOfStruct(t)
	case reflect.Map:
		return &shape{kind: dictionary, element: shapeOf(t.Elem())}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &shape{kind: base64Text}
		}
		return &shape{kind: array, element: shapeOf(t.Elem())}
	case reflect.String:
		return &shape{kind: text}
	case reflect.Bool:
		return &shape{kind: boolean}
	case reflect.Float32, reflect.Float64:
		return &shape{kind: number}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &shape{kind: integer}
	}
	return anything
}

func implements[I any](t reflect.Type) bool { return t.Implements(reflect.TypeFor[I]()) }

// with is the shape of a field with that tag.
func (s *shape) with(tag reflect.StructTag) *shape {
	limits, words := LimitsOf(tag), WordsOf(tag)
	if limits == nil && words == nil {
		return s
	}
	narrower := *s
	narrower.limits, narrower.words = limits, words
	return &narrower
}

// shapeOfStruct has at most 64 members.
func shapeOfStruct(t reflect.Type) *shape {
	s := &shape{kind: object}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Type == reflect.TypeFor[Open]():
			s.open = true
		case !f.IsExported() || name == "-" || f.Anonymous && name == "":
		default:
			if name == "" {
				name = f.Name
			}
			if !strings.Contains(options, "omit") {
				s.required |= 1 << len(s.members)
			}
			s.members = append(s.members, field{name, shapeOf(f.Type).with(f.Tag)})
		}
	}
	return s
}
