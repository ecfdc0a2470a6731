package rpc

import (
	"encoding/json"
	"reflect"
	"strings"
)

// A schema is as much of JSON Schema (draft 7) as describes this protocol.
type schema struct {
	Ref             string             `json:"$ref,omitempty"`
	OneOf           []schema           `json:"oneOf,omitempty"`
	Type            string             `json:"type,omitempty"`
	Description     string             `json:"description,omitempty"`
	Enum            []string           `json:"enum,omitempty"`
	Pattern         string             `json:"pattern,omitempty"`
	ContentEncoding string             `json:"contentEncoding,omitempty"`
	MinLength       int                `json:"minLength,omitempty"`
	MaxLength       int                `json:"maxLength,omitempty"`
	Minimum         *int               `json:"minimum,omitempty"`
	Maximum         *int               `json:"maximum,omitempty"`
	Items           *schema            `json:"items,omitempty"`
	Properties      map[string]*schema `json:"properties,omitempty"`
	Required        []string           `json:"required,omitempty"`
	Additional      *schema            `json:"additionalProperties,omitempty"`
}

// A parameter is a member that a method's parameters may have.
type parameter struct {
	name   string
	must   bool
	schema schema
}

// parameters asks a parameter type's own reader what it reads, so that what is
// described is what is enforced.
func parameters(p Params) []parameter {
	learned := []parameter{}
	p.read(&members{learned: &learned})
	return learned
}

const schemaRef = "#/components/schemas/"

// schemas are those of Go types, by name.
type schemas map[string]*schema

// of is the schema of a type; structs are referred to by name. Members that a
// reader doesn't know are to be left alone, so nothing is closed.
func (all schemas) of(t reflect.Type) schema {
	switch t {
	case reflect.TypeFor[Digest]():
		all["Digest"] = &schema{Type: "string", Pattern: "^[0-9a-f]{96}$"}
		return schema{Ref: schemaRef + "Digest"}
	case reflect.TypeFor[HexBytes]():
		return schema{Type: "string", Pattern: "^([0-9a-f]{2})+$"}
	case reflect.TypeFor[[]byte]():
		return schema{Type: "string", ContentEncoding: "base64"}
	case reflect.TypeFor[json.RawMessage]():
		return schema{Type: "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return all.of(t.Elem())
	case reflect.Slice:
		items := all.of(t.Elem())
		return schema{Type: "array", Items: &items}
	case reflect.Map:
		values := all.of(t.Elem())
		return schema{Type: "object", Additional: &values}
	case reflect.Struct:
		if _, known := all[t.Name()]; !known {
			s := &schema{Type: "object", Properties: map[string]*schema{}}
			all[t.Name()] = s
			all.fields(s, t)
		}
		return schema{Ref: schemaRef + t.Name()}
	case reflect.String:
		return schema{Type: "string"}
	case reflect.Bool:
		return schema{Type: "boolean"}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		least := 0
		return schema{Type: "integer", Minimum: &least}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return schema{Type: "integer"}
	}
	panic("no schema for " + t.String()) // a test builds them all
}

// fields describes the members of a struct as encoding/json writes them.
func (all schemas) fields(s *schema, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			all.fields(s, f.Type)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || !f.IsExported() {
			continue
		}
		typ := f.Type
		if f.Name == "Claims" { // kept as bytes, for their hash
			typ = reflect.TypeFor[Claims]()
		}
		of := all.of(typ)
		s.Properties[name] = &of
		if options != "omitempty" {
			s.Required = append(s.Required, name)
		}
	}
}
