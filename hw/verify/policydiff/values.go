package policydiff

import (
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// object is a table, empty where there is none.
func object(v any) map[string]any {
	t, _ := v.(map[string]any)
	if t == nil {
		return map[string]any{}
	}
	return t
}

// array is a list of tables.
func array(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case []map[string]any:
		out := make([]any, len(v))
		for i, t := range v {
			out[i] = t
		}
		return out
	}
	return nil
}

// list is a key's values: one can stand without brackets.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// byName makes a table of tables that have a name each. Alternatives that share a name
// (containers may) are told apart by their place.
func byName(v any) map[string]any {
	out := make(map[string]any)
	for _, t := range array(v) {
		t := object(t)
		name, _ := t["name"].(string)
		for n := 2; ; n++ {
			if _, taken := out[name]; !taken {
				break
			}
			base, _, _ := strings.Cut(name, " #")
			name = fmt.Sprintf("%s #%d", base, n)
		}
		out[name] = t
	}
	return out
}

// missing are the names of a that b lacks, sorted.
func missing(a, b map[string]any) []string {
	var out []string
	for name := range a {
		if _, ok := b[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// same compares two values. A list of one is that one.
func same(a, b any) bool { return key(a) == key(b) }

// nameless is a table without its name.
func nameless(v any) any {
	t := maps.Clone(object(v))
	delete(t, "name")
	return t
}

// without are the values of a that b lacks.
func without(a, b []any) []any {
	known := make(map[string]int)
	for _, v := range b {
		known[key(v)]++
	}
	var out []any
	for _, v := range a {
		if k := key(v); known[k] > 0 {
			known[k]--
		} else {
			out = append(out, v)
		}
	}
	return out
}

// key spells a value so that equal ones are equal.
func key(v any) string {
	switch v := v.(type) {
	case map[string]any:
		parts := make([]string, 0, len(v))
		for name, member := range v {
			parts = append(parts, name+"="+key(member))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ",") + "}"
	case []any:
		if len(v) == 1 {
			return key(v[0])
		}
		parts := make([]string, len(v))
		for i, one := range v {
			parts[i] = key(one)
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return spell(v)
}

// longText bounds a value in a message, in bytes.
const longText = 200

// spell writes a value as TOML would, tables by their members, digests short.
func spell(v any) string {
	switch v := v.(type) {
	case time.Time:
		if v.Equal(v.Truncate(24 * time.Hour)) {
			return v.Format(time.DateOnly)
		}
		return v.Format(time.RFC3339)
	case map[string]any:
		names := missing(v, nil)
		parts := make([]string, 0, len(names))
		for _, name := range names {
			parts = append(parts, name+" = "+spell(v[name]))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case []any:
		parts := make([]string, len(v))
		for i, one := range v {
			parts[i] = spell(one)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case string:
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprintf("%q", v)
		}
		if len(text) > longText {
			return strings.ToValidUTF8(string(text[:longText]), "") + `…"`
		}
		return string(text)
	}
	return fmt.Sprint(v)
}
