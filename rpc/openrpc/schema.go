package openrpc

import (
	"encoding/json/jsontext"
	"reflect"
	"strings"

	"github.com/cima-project/cima/rpc"
)

const schemaRef = "#/components/schemas/"

// schemas are the schemas of Go types, by name.
type schemas map[string]*schema

// of is the schema of a type; structs are referred to by name. Readers must ignore
// members that they don't know, so no schema forbids further ones.
func (all schemas) of(t reflect.Type) schema {
	switch t {
	case reflect.TypeFor[rpc.Digest]():
		return schema{Type: "string", Pattern: "^[0-9a-f]{96}$"}
	case reflect.TypeFor[rpc.HexBytes]():
		return schema{Type: "string", Pattern: "^([0-9a-f]{2})+$"}
	case reflect.TypeFor[[]byte]():
		return schema{Type: "string", ContentEncoding: "base64"}
	case reflect.TypeFor[jsontext.Value]():
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
		return schema{Type: "integer", Minimum: new(int)}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return schema{Type: "integer"}
	}
	panic("no Schema for " + t.String()) // a test builds them all
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
			typ = reflect.TypeFor[rpc.Claims]()
		}
		of := all.of(typ)
		s.Properties[name] = &of
		if !strings.HasPrefix(options, "omit") {
			s.Required = append(s.Required, name)
		}
	}
}
