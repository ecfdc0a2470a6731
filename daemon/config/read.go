package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
)

// File is read when --config names no other; it need not exist.
const File = "/etc/cima/cimad.toml"

// maxFile bounds the bytes of a configuration file.
const maxFile = 1 << 20

// Load reads a configuration file. A file that isn't there gives the defaults. Each
// fault of the file is told with its line.
func Load(path string) (Config, error) {
	r, err := load(path)
	return r.config, err
}

// Parse reads the text of a configuration file over the defaults.
func Parse(text string) (Config, error) {
	r, err := read("cimad.toml", text)
	return r.config, err
}

// reading is a configuration, and where its values come from.
type reading struct {
	config Config
	lines  map[string]int // of the keys and tables that are in the file, by their paths
	there  bool           // there is a file
}

func load(path string) (reading, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return reading{config: Default()}, nil
	}
	if err != nil {
		return reading{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return reading{}, fmt.Errorf("configuration: %w", err)
	}
	return read(path, string(text))
}

func read(name, text string) (reading, error) {
	t, err := tables.Read(name, []byte(text), maxFile)
	if err != nil {
		return reading{}, err
	}
	r := reading{config: Default(), lines: make(map[string]int), there: true}
	r.fill(t, reflect.ValueOf(&r.config).Elem())
	if t.Errors() == nil { // of a whole configuration alone
		r.config.check(t.Fault)
	}
	if err := t.Errors(); err != nil {
		return reading{}, err
	}
	return r, nil
}

// sayer notes a fault of what a path leads to (tables.Path).
type sayer func(path, format string, args ...any)

// fill sets the members of a struct that a table has keys for.
func (r *reading) fill(t *tables.Table, to reflect.Value) {
	for i := range to.NumField() {
		key := to.Type().Field(i).Tag.Get("toml")
		field := to.Field(i)
		switch {
		case field.Kind() == reflect.Struct:
			if below, there := t.One(key); there {
				r.lines[t.At(key)] = t.Line(t.At(key))
				r.fill(below, field)
			}
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			for _, one := range t.All(key) {
				r.lines[one.Path] = t.Line(one.Path)
				element := reflect.New(field.Type().Elem()).Elem()
				r.fill(one, element)
				field.Set(reflect.Append(field, element))
			}
		default:
			value, there := t.Take(key)
			if !there {
				continue
			}
			r.lines[t.At(key)] = t.Line(t.At(key))
			if must := set(field, value); must != "" {
				t.Bad(key, "%s", must)
			}
		}
	}
	t.Done()
}

// set sets a member to a value of TOML; else it says what the value must be.
func set(to reflect.Value, value any) (must string) {
	if d, ok := to.Addr().Interface().(*Duration); ok {
		return d.set(value)
	}
	switch to.Kind() {
	case reflect.String:
		s, ok := value.(string)
		if !ok {
			return "text in quotes"
		}
		to.SetString(s)
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			return "true or false"
		}
		to.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, ok := value.(int64)
		if !ok || to.OverflowInt(n) {
			return "a whole number"
		}
		to.SetInt(n)
	case reflect.Float64:
		switch n := value.(type) {
		case float64:
			to.SetFloat(n)
		case int64:
			to.SetFloat(float64(n))
		default:
			return "a number"
		}
	case reflect.Slice:
		return setTexts(to, value)
	}
	return ""
}

func setTexts(to reflect.Value, value any) (must string) {
	list, ok := value.([]any)
	texts := make([]string, 0, len(list))
	for _, v := range list {
		s, isText := v.(string)
		ok = ok && isText
		texts = append(texts, s)
	}
	if !ok {
		return `a list of texts, as ["one", "two"]`
	}
	if len(texts) > 0 || !to.IsNil() { // an empty list is none
		to.Set(reflect.ValueOf(texts))
	}
	return ""
}

// set reads what time.ParseDuration reads, above zero.
func (d *Duration) set(value any) (must string) {
	text, _ := value.(string)
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 || strings.HasPrefix(text, "+") {
		return `a duration above zero in quotes, as "10s" or "1m30s"`
	}
	*d = Duration(v)
	return ""
}
