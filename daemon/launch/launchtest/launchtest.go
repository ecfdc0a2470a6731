// Package launchtest answers: which bundles and which file trees do tests read?
//
// The bundles in testdata are those of real engines, without names and ids of the
// machine that they come from. A test makes variants of them by Changes. A Tree is a
// directory that belongs to root, with the files of a host if a test wants them.
package launchtest

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata/*.json
var bundles embed.FS

// Names are those of all bundles.
func Names(t testing.TB) []string {
	t.Helper()
	files, err := fs.Glob(bundles, "testdata/*.json")
	if err != nil || len(files) < 5 {
		t.Fatal("no bundles in testdata", err)
	}
	for i := range files {
		files[i] = strings.TrimSuffix(filepath.Base(files[i]), ".json")
	}
	return files
}

// Config is one of the bundles, as plain JSON.
func Config(t testing.TB, name string) map[string]any {
	t.Helper()
	raw, err := bundles.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Encode writes plain JSON.
func Encode(t testing.TB, c any) []byte {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// ID makes 64 hex digits of a number.
func ID(n int) string { return fmt.Sprintf("%064x", n+0xa0000) }

// Change edits a bundle's config.json. A path is the names of members from the top
// down, with dots between.
type Change func(c map[string]any)

func at(c map[string]any, path string) (map[string]any, string) {
	parts := strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		c = c[p].(map[string]any)
	}
	return c, parts[len(parts)-1]
}

// Set sets a member.
func Set(path string, v any) Change {
	return func(c map[string]any) { m, k := at(c, path); m[k] = v }
}

// Drop removes a member.
func Drop(path string) Change {
	return func(c map[string]any) { m, k := at(c, path); delete(m, k) }
}

// Add appends v to the list at path, and makes the list if there is none.
func Add(path string, v any) Change {
	return func(c map[string]any) { m, k := at(c, path); list, _ := m[k].([]any); m[k] = append(list, v) }
}

// First puts v in front of the list at path, which must be there.
func First(path string, v any) Change {
	return func(c map[string]any) { m, k := at(c, path); m[k] = append([]any{v}, m[k].([]any)...) }
}

// Without removes from the list at path the objects whose member key has this value.
func Without(path, key, value string) Change {
	return func(c map[string]any) {
		m, k := at(c, path)
		var out []any
		for _, v := range m[k].([]any) {
			if v.(map[string]any)[key] != value {
				out = append(out, v)
			}
		}
		m[k] = out
	}
}

// Mount is an element of the list "mounts".
func Mount(destination, kind, source string, options ...any) map[string]any {
	return map[string]any{"destination": destination, "type": kind, "source": source, "options": options}
}
