package server

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// A schema is as much of JSON schema (draft 7) as describes this protocol.
type schema struct {
	Ref             string             `json:"$ref,omitempty"`
	OneOf           []schema           `json:"oneOf,omitempty"`
	Type            string             `json:"type,omitempty"`
	Description     string             `json:"description,omitempty"`
	Enum            []string           `json:"enum,omitempty"`
	Pattern         string             `json:"pattern,omitempty"`
	ContentEncoding string             `json:"contentEncoding,omitempty"`
	MinLength       int                `json:"minLength,omitzero"`
	MaxLength       int                `json:"maxLength,omitzero"`
	Minimum         *int               `json:"minimum,omitzero"`
	Maximum         *int               `json:"maximum,omitzero"`
	Items           *schema            `json:"items,omitzero"`
	Properties      map[string]*schema `json:"properties,omitempty"`
	Required        []string           `json:"required,omitempty"`
	Additional      *schema            `json:"additionalProperties,omitzero"`
}

// A parameter is a member that a method's parameters may have.
type parameter struct {
	name     string
	required bool
	schema   schema
}

// parameters are what rpc.DecodeParams reads into p, and with admin set what
// rpc.DecodeAdminParams reads. They are taken from the tags that these functions go
// by, so what is described is what is enforced.
func parameters(p rpc.Params, admin bool) []parameter {
	all := []parameter{}
	if admin {
		all = append(all, parameter{"container_id", false, schema{Type: "string", MinLength: 1, MaxLength: rpc.MaxContainerID}})
	}
	for f := range reflect.TypeOf(p).Elem().Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, parameter{name, options == "", schemaOf(f)})
	}
	return all
}

func schemaOf(f reflect.StructField) schema {
	if words := canonical.WordsOf(f.Tag); words != nil {
		return schema{Enum: words}
	}
	if f.Type.Kind() == reflect.Bool {
		return schema{Type: "boolean"}
	}
	limits := canonical.LimitsOf(f.Tag)
	least, most := int(limits.Min), int(limits.Max)
	switch f.Type.Kind() {
	case reflect.String:
		return schema{Type: "string", MinLength: least, MaxLength: most}
	case reflect.Int:
		return schema{Type: "integer", Minimum: &least, Maximum: &most}
	}
	// The length of base64 fixes the number of bytes but for two.
	encoded := base64.StdEncoding.EncodedLen
	return schema{Type: "string", Description: fmt.Sprintf("%d to %d bytes", least, most),
		ContentEncoding: "base64", MinLength: encoded(least), MaxLength: encoded(most)}
}
