// Package tables answers: how is a TOML file read so that no slip of the pen is lost?
//
// A reader takes each key that it knows out of a table, with its kind; those that are left
// are faults. Each fault has file, line and, where a known word is near, a proposal.
package tables

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Error is a fault of a file.
type Error struct {
	File string
	Line int
	Text string // what must be, and where it can be told a proposal
}

// Error names file and line.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// maxErrors is how many faults are told at once.
const maxErrors = 20

// file is a file that is being read.
type file struct {
	Name  string
	lines map[string]int
	errs  []*Error
}

// Fault notes one: the path names its line.
func (f *file) Fault(path, format string, args ...any) {
	if len(f.errs) < maxErrors {
		f.errs = append(f.errs, &Error{f.Name, f.Line(path), fmt.Sprintf(format, args...)})
	}
}

// Line is that of a key, or of what it is in.
func (f *file) Line(path string) int {
	for path != "" {
		if n, ok := f.lines[path]; ok {
			return n
		}
		path = path[:max(0, strings.LastIndex(path, separator))]
	}
	return 1
}

// Read reads the text of a file, of at most most bytes, as a table.
func Read(name string, text []byte, most int) (*Table, error) {
	if len(text) > most {
		return nil, &Error{name, 1, fmt.Sprintf("the file must have at most %d bytes", most)}
	}
	found := findPositions(string(text))
	if found.deep > 0 {
		return nil, &Error{name, found.deep, fmt.Sprintf("arrays and tables must nest at most %d deep", MaxNesting)}
	}
	values := make(map[string]any)
	_, err := toml.Decode(string(text), &values)
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return nil, &Error{name, parse.Position.Line, parse.Message + unquoted(parse.Message)}
	}
	if err != nil {
		return nil, &Error{name, 1, err.Error()}
	}
	return &Table{&file{Name: name, lines: found.lines}, "", "the file", values, nil}, nil
}

// unquoted names the usual slip where the parser wanted a value and found a word or a path.
func unquoted(message string) string {
	const before = "expected value but found "
	if strings.HasPrefix(message, before+`"`) || strings.HasPrefix(message, before+"'/'") {
		return ": text must be in quotes"
	}
	return ""
}

// Errors are the faults in the order of their lines, joined; nil where there are none.
func (f *file) Errors() error {
	slices.SortStableFunc(f.errs, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	all := make([]error, len(f.errs))
	for i, e := range f.errs {
		all[i] = e
	}
	return errors.Join(all...)
}

// Path is the path of what these names and numbers lead to.
func Path(parts ...any) string {
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = fmt.Sprint(p)
	}
	return strings.Join(words, separator)
}

// Table is a table of a file. Each key must be read once: those that are left are
// unknown.
type Table struct {
	*file
	Path   string
	Title  string // for people: "[tcb]"
	values map[string]any
	asked  []string
}

// At is the path of a key.
func (t *Table) At(name string) string { return join(t.Path, name) }

// Take takes a key out as it is.
func (t *Table) Take(name string) (any, bool) {
	t.asked = append(t.asked, name)
	v, ok := t.values[name]
	return v, ok
}

// Bad says what a key must be.
func (t *Table) Bad(name, format string, args ...any) {
	t.Fault(t.At(name), "%s: %s must be %s", t.Title, name, fmt.Sprintf(format, args...))
}

// Done refuses the keys that nobody asked for.
func (t *Table) Done() {
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(t.asked, name) {
			t.Fault(t.At(name), "%s has no key %q%s", t.Title, name, Near(name, t.asked))
		}
	}
}

// Text is text that is not empty.
func (t *Table) Text(name string) string {
	v, ok := t.Take(name)
	s, isText := v.(string)
	if ok && (!isText || s == "") {
		t.Bad(name, "text")
	}
	return s
}

// Flag is true or false.
func (t *Table) Flag(name string) bool {
	v, ok := t.Take(name)
	b, isFlag := v.(bool)
	if ok && !isFlag {
		t.Bad(name, "true or false")
	}
	return b
}

// Number is a whole number.
func (t *Table) Number(name string) int64 {
	v, ok := t.Take(name)
	n, isNumber := v.(int64)
	if ok && (!isNumber || n < 0) {
		t.Bad(name, "a number from 0 on")
	}
	return n
}

// Time is a day, which begins at 0:00 UTC, or a time with its zone.
func (t *Table) Time(name string) time.Time {
	v, ok := t.Take(name)
	at, isTime := v.(time.Time)
	switch {
	case !ok:
	case !isTime || at.Location().String() == "datetime-local" || at.Location().String() == "time-local":
		t.Bad(name, "a day, as 2026-12-31, or a time with its zone, without quotes")
	case at.Location().String() == "date-local":
		return time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC)
	default:
		return at
	}
	return time.Time{}
}

// Duration is whole days, hours, minutes or seconds: "30d".
func (t *Table) Duration(name string) time.Duration {
	v, ok := t.Take(name)
	if !ok {
		return 0
	}
	text, _ := v.(string)
	var n int
	var unit string
	if c, err := fmt.Sscanf(text, "%d%s", &n, &unit); c == 2 && err == nil && n > 0 && n < 100000 && text == fmt.Sprint(n, unit) {
		if each, ok := map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second}[unit]; ok {
			return time.Duration(n) * each
		}
	}
	t.Bad(name, `a number and d, h, m or s, as "30d"`)
	return 0
}

// List is what stands in an array, or one value without it.
func (t *Table) List(name string) (list []any, there bool) {
	v, ok := t.Take(name)
	if !ok {
		return nil, false
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	return list, true
}

// Texts are the strings of an array, each once. valid says what one must be, "" if it is.
func (t *Table) Texts(name string, valid func(string) string) []string {
	list, there := t.List(name)
	if !there {
		return nil
	}
	texts := make([]string, 0, len(list))
	for i, v := range list {
		at := fmt.Sprint(t.At(name), separator, i)
		s, isText := v.(string)
		if !isText {
			t.Fault(at, "%s: %s must be a list of texts", t.Title, name)
			continue
		}
		if must := valid(s); must != "" {
			t.Fault(at, "%s: %s: %q must be %s", t.Title, name, Clip(s), must)
		}
		texts = append(texts, s)
	}
	return texts
}

// One is the table [name]; false, and an empty one, where there is none.
func (t *Table) One(name string) (*Table, bool) {
	v, ok := t.Take(name)
	values, isTable := v.(map[string]any)
	if ok && !isTable {
		t.Bad(name, "a table, [%s]", name)
	}
	return &Table{t.file, t.At(name), "[" + name + "]", values, nil}, isTable
}

// Named are the tables [kind.NAME], by name.
func (t *Table) Named(kind string) map[string]*Table {
	all, ok := t.One(kind)
	if !ok {
		return nil
	}
	found := make(map[string]*Table)
	for name, v := range all.values {
		values, isTable := v.(map[string]any)
		if !isTable {
			t.Fault(all.At(name), "%s must be tables, [%s.NAME]", kind, kind)
			continue
		}
		found[name] = &Table{t.file, all.At(name), fmt.Sprintf("[%s.%s]", kind, name), values, nil}
	}
	return found
}

// All are the tables [[kind]], in their order.
func (t *Table) All(kind string) (found []*Table) {
	v, ok := t.Take(kind)
	if !ok {
		return nil
	}
	var list []map[string]any
	switch v := v.(type) {
	case []map[string]any:
		list = v
	case []any:
		for _, one := range v {
			values, _ := one.(map[string]any)
			list = append(list, values)
		}
	default:
		list = []map[string]any{nil}
	}
	for i, values := range list {
		if values == nil {
			t.Bad(kind, "tables, [[%s]]", kind)
			return nil
		}
		found = append(found, &Table{t.file, fmt.Sprint(t.At(kind), separator, i), fmt.Sprintf("[[%s]] %d", kind, i+1), values, nil})
	}
	return found
}

// Clip keeps messages short.
func Clip(text string) string {
	if len(text) > 100 {
		return strings.ToValidUTF8(text[:100], "") + "…" // no half of a character
	}
	return text
}

// shown is how many words of a list a message shows.
const shown = 4

// Or is how a list reads in a message: "a or b", or "none". A long one is cut short.
func Or[T any](list []T) string {
	words := make([]string, 0, shown+1)
	for _, v := range list[:min(len(list), shown)] {
		words = append(words, fmt.Sprint(v))
	}
	if more := len(list) - shown; more > 0 {
		words = append(words, fmt.Sprintf("one of %d more", more))
	}
	return cmp.Or(strings.Join(words, " or "), "none")
}

// OneOf makes a function for Texts: it wants a word of a closed list.
func OneOf(noun string, words []string) func(string) string {
	return func(s string) string {
		if slices.Contains(words, s) {
			return ""
		}
		return fmt.Sprintf("a %s of %s%s", noun, strings.Join(words, ", "), Near(s, words))
	}
}

// AnyText wants text.
func AnyText(s string) string {
	if s == "" {
		return "text"
	}
	return ""
}
