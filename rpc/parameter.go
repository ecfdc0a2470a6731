package rpc

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"

	"github.com/cima-project/cima/logs/canonical"
)

// A Schema is as much of JSON Schema (draft 7) as describes this protocol.
type Schema struct {
	Ref             string             `json:"$ref,omitempty"`
	OneOf           []Schema           `json:"oneOf,omitempty"`
	Type            string             `json:"type,omitempty"`
	Description     string             `json:"description,omitempty"`
	Enum            []string           `json:"enum,omitempty"`
	Pattern         string             `json:"pattern,omitempty"`
	ContentEncoding string             `json:"contentEncoding,omitempty"`
	MinLength       int                `json:"minLength,omitzero"`
	MaxLength       int                `json:"maxLength,omitzero"`
	Minimum         *int               `json:"minimum,omitzero"`
	Maximum         *int               `json:"maximum,omitzero"`
	Items           *Schema            `json:"items,omitzero"`
	Properties      map[string]*Schema `json:"properties,omitempty"`
	Required        []string           `json:"required,omitempty"`
	Additional      *Schema            `json:"additionalProperties,omitzero"`
}

// A Parameter is a member that a method's parameters may have.
type Parameter struct {
	Name     string
	Required bool
	Schema   Schema
}

// Parameters are what DecodeParams reads into p, and with admin set what
// DecodeAdminParams reads. They are made of the tags that the reader goes by, so
// the description is what is enforced.
func Parameters(p Params, admin bool) []Parameter {
	all := []Parameter{}
	if admin {
		all = appendParameters(all, reflect.TypeFor[adminParams]())
	}
	return appendParameters(all, reflect.TypeOf(p).Elem())
}

func appendParameters(all []Parameter, t reflect.Type) []Parameter {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, Parameter{name, options == "", schemaOf(f)})
	}
	return all
}

func schemaOf(f reflect.StructField) Schema {
	if words := canonical.WordsOf(f.Tag); words != nil {
		return Schema{Enum: words}
	}
	if f.Type.Kind() == reflect.Bool {
		return Schema{Type: "boolean"}
	}
	limits := canonical.LimitsOf(f.Tag)
	least, most := int(limits.Min), int(limits.Max)
	switch f.Type.Kind() {
	case reflect.String:
		return Schema{Type: "string", MinLength: least, MaxLength: most}
	case reflect.Int:
		return Schema{Type: "integer", Minimum: &least, Maximum: &most}
	}
	// The length of base64 tells the number of bytes but for two.
	encoded := base64.StdEncoding.EncodedLen
	return Schema{Type: "string", Description: fmt.Sprintf("%d to %d bytes", least, most),
		ContentEncoding: "base64", MinLength: encoded(least), MaxLength: encoded(most)}
}
