package canonical

import (
	"encoding"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"reflect"
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

// must says what a value of that kind must be.
func (k kind) must() string {
	switch k {
	case object, dictionary:
		return "must be an object"
	case array:
		return "must be an array"
	case text:
		return "must be a string"
	case base64Text:
		return "must be standard base64 with padding"
	case integer:
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

func typeOf(v any) *shape { return shapeOf(reflect.TypeOf(v)) }

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
			s.members = append(s.members, field{name, shapeOf(f.Type)})
		}
	}
	return s
}
