package vectors

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// closed is a schema that refuses unknown members.
func closed(schema map[string]any) map[string]any {
	with := maps.Clone(schema)
	if with == nil {
		with = map[string]any{"type": "null"}
	}
	with["additionalProperties"] = false
	return with
}

// conforms checks a value against the part of JSON Schema that discovery uses;
// an unknown keyword is an error.
func (d discovered) conforms(schema map[string]any, v any) error {
	for keyword, of := range schema {
		var err error
		switch keyword {
		case "$ref":
			err = d.conforms(d.Components.Schemas[strings.TrimPrefix(of.(string), "#/components/schemas/")], v)
		case "oneOf":
			n := 0
			for _, one := range of.([]any) {
				if err = errors.Join(err, d.conforms(one.(map[string]any), v)); d.conforms(one.(map[string]any), v) == nil {
					n++
				}
			}
			if n == 1 {
				err = nil
			}
		case "anyOf":
			for _, one := range of.([]any) {
				if err = d.conforms(one.(map[string]any), v); err == nil {
					break
				}
			}
		case "type":
			err = isOf(of.(string), v)
		case "description":
		case "enum":
			if !slices.Contains(of.([]any), v) {
				err = fmt.Errorf("%v must be one of %v", v, of)
			}
		case "pattern":
			if text, _ := v.(string); !regexp.MustCompile(of.(string)).MatchString(text) {
				err = fmt.Errorf("%.40q must match %s", text, of)
			}
		case "contentEncoding":
			text, _ := v.(string)
			_, err = base64.StdEncoding.Strict().DecodeString(text)
		case "minLength", "maxLength", "minimum", "maximum":
			err = within(keyword, of.(float64), v)
		case "items":
			elements, _ := v.([]any)
			for i, element := range elements {
				if wrong := d.conforms(of.(map[string]any), element); wrong != nil {
					err = fmt.Errorf("[%d]: %w", i, wrong)
				}
			}
		case "required":
			object, _ := v.(map[string]any)
			for _, name := range of.([]any) {
				if _, ok := object[name.(string)]; !ok {
					err = fmt.Errorf("%s is missing", name)
				}
			}
		case "properties", "additionalProperties":
			err = d.members(schema, v)
		default:
			err = fmt.Errorf("unknown keyword %q", keyword)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d discovered) members(schema map[string]any, v any) error {
	object, _ := v.(map[string]any)
	properties, _ := schema["properties"].(map[string]any)
	for name, of := range object {
		known, ok := properties[name].(map[string]any)
		if !ok {
			switch others := schema["additionalProperties"].(type) {
			case bool:
				return fmt.Errorf("unknown member %s", name)
			case map[string]any:
				known = others
			}
		}
		if err := d.conforms(known, of); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func isOf(kind string, v any) error {
	ok := false
	switch v := v.(type) {
	case string:
		ok = kind == "string"
	case bool:
		ok = kind == "boolean"
	case float64:
		ok = kind == "integer" && v == float64(int64(v))
	case []any:
		ok = kind == "array"
	case map[string]any:
		ok = kind == "object"
	case nil:
		ok = kind == "null"
	}
	if !ok {
		return fmt.Errorf("%.40v must be of type %s", v, kind)
	}
	return nil
}

func within(keyword string, bound float64, v any) error {
	n, ok := v.(float64)
	if text, is := v.(string); is {
		n, ok = float64(len(text)), true
	}
	if !ok || keyword[:3] == "min" && n < bound || keyword[:3] == "max" && n > bound {
		return fmt.Errorf("%.40v breaks %s %v", v, keyword, bound)
	}
	return nil
}
