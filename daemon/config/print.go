package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/hw/verify/tables"
)

// Print is the configuration that the file at a path gives, as TOML that cimad reads:
// every key, and behind it where its value comes from.
func Print(path string) (string, error) {
	r, err := load(path)
	if err != nil {
		return "", err
	}
	return r.text(path)
}

func (r *reading) text(path string) (string, error) {
	digest, err := r.config.Digest()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# The configuration of cimad by %s", path)
	if !r.there {
		b.WriteString(", which is not there")
	}
	fmt.Fprintf(&b, ".\n# Its SHA-384, as the policy event in the log has it:\n# %s\n", digest)
	err = r.print(&b, "", "", reflect.ValueOf(r.config))
	return b.String(), err
}

// print writes the keys of a table, then the tables below it.
func (r *reading) print(b *strings.Builder, path, title string, from reflect.Value) error {
	if title != "" {
		fmt.Fprintf(b, "\n%s%s\n", title, r.origin(path, ""))
	}
	within := strings.HasPrefix(title, "[[")
	for i := range from.NumField() {
		key, field := from.Type().Field(i).Tag.Get("toml"), from.Field(i)
		below := joined(path, key)
		switch {
		case field.Kind() == reflect.Struct:
			if err := r.print(b, below, "["+key+"]", field); err != nil {
				return err
			}
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			for n := range field.Len() {
				if err := r.print(b, tables.Path(below, n), "[["+key+"]]", field.Index(n)); err != nil {
					return err
				}
			}
		case within && field.IsZero(): // there an absent key and an empty one are the same
		default:
			line, err := pair(key, field.Interface())
			if err != nil {
				return err
			}
			fmt.Fprintf(b, "%s%s\n", line, r.origin(below, "default"))
		}
	}
	return nil
}

func joined(path, key string) string {
	if path == "" {
		return key
	}
	return tables.Path(path, key)
}

// origin is a comment: the line of what a path leads to, or otherwise.
func (r *reading) origin(path, otherwise string) string {
	if line, there := r.lines[path]; there {
		otherwise = fmt.Sprintf("line %d", line)
	}
	if otherwise == "" {
		return ""
	}
	return "  # " + otherwise
}

// pair is KEY = VALUE.
func pair(key string, value any) (string, error) {
	switch v := value.(type) {
	case Duration:
		value = time.Duration(v).String()
	case []string:
		value = append([]string{}, v...)
	}
	text, err := toml.Marshal(map[string]any{key: value})
	return strings.TrimSuffix(string(text), "\n"), err
}
