package openrpc

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
	AnyOf           []schema           `json:"anyOf,omitempty"`
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
	about := f.Tag.Get("about")
	if words := canonical.WordsOf(f.Tag); words != nil {
		return schema{Type: "string", Description: about, Enum: words}
	}
	if f.Type.Kind() == reflect.Bool {
		return schema{Type: "boolean", Description: about}
	}
	limits := canonical.LimitsOf(f.Tag)
	least, most := int(limits.Min), int(limits.Max)
	switch f.Type.Kind() {
	case reflect.String:
		return textOf(f.Tag.Get("spelled"), least, most)
	case reflect.Int:
		return schema{Type: "integer", Description: about, Minimum: &least, Maximum: &most}
	}
	return bytesOf(least, most)
}

// textOf describes text. rpc.Params.complete checks how it is spelled.
func textOf(spelled string, least, most int) schema {
	s := schema{Type: "string", Description: fmt.Sprintf("%d to %d bytes of UTF-8", least, most), MinLength: least, MaxLength: most}
	switch spelled {
	case "word":
		s.Pattern = "^[^" + spaces + "]+$"
	case "line":
		s.Pattern, s.MaxLength = "^[^\n]*$", rpc.MaxExtendContent
		s.Description = fmt.Sprintf("at most %d bytes of UTF-8; more are too large", rpc.MaxExtendContent)
	}
	return s
}

// spaces are white space and control characters as package unicode has them; the dialects
// of regular expressions differ in what they call a space.
const spaces = "\x00- \x7f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

// bytesOf describes base64 of least to most bytes, in its one standard spelling.
func bytesOf(least, most int) schema {
	encoded := base64.StdEncoding.EncodedLen
	s := schema{
		Type: "string", Description: fmt.Sprintf("%d to %d bytes", least, most), ContentEncoding: "base64",
		MinLength: encoded(least), MaxLength: encoded(most),
	}
	const four, one, two = "[A-Za-z0-9+/]{4}", "[A-Za-z0-9+/][AQgw]==", "[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]="
	end := [...]string{"", one, two}
	if first, last := least/3, most/3; last-first > 1 && last < 100 {
		// The length of base64 fixes the number of bytes but for two.
		s.Pattern = fmt.Sprintf("^(%s|(%s){%d,%d}(%s|%s)?|%s)$",
			groups(four, first, end[least%3:]...), four, first+1, last-1, one, two, groups(four, last, end[:most%3+1]...))
		return s
	}
	s.Pattern = fmt.Sprintf("^(%s)*(%s|%s)?$", four, one, two)
	if r := most % 3; r > 0 { // of the greatest length, only these have no byte too many
		s.AnyOf = []schema{{MaxLength: encoded(most - r)}, {Pattern: strings.Repeat("=", 3-r) + "$"}}
	}
	return s
}

// groups is n groups of four letters, then one of the ends.
func groups(four string, n int, ends ...string) string {
	return fmt.Sprintf("(%s){%d}(%s)", four, n, strings.Join(ends, "|"))
}
