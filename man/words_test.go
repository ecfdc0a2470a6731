package man

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw/verify/codes"
)

// policyKey finds where the code reads a key of a policy.
const policyKey = `\.(?:Text|Flag|Number|Time|Duration|Texts|One|Named|All|Table|Tables|Take)\("([a-z_0-9]+)"`

// texts are what people read: the manual's pages, and the Markdown at the root.
func texts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.[1-8].md")
	root, err2 := filepath.Glob("../*.md")
	if err != nil || err2 != nil || len(files) < 11 || len(root) < 4 {
		t.Fatal(files, root, err, err2)
	}
	found := make(map[string]string)
	for _, name := range append(files, root...) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = string(b)
	}
	return found
}

// A key that a text tells somebody to write is a key: of a policy, of cimad.toml, or one
// of these other things.
func TestKeysThatAreNamedExist(t *testing.T) {
	known := map[string]bool{
		"cima_policy":   true,                                                              // the form of a policy
		"sd_notify":     true,                                                              // libsystemd's
		"cima_client":   true,                                                              // the Python package
		"proc_pid_stat": true,                                                              // a page of another manual
		"only_words":    true,                                                              // a mark in ours
		"exec_verity":   true, "boot_aggregate": true, "cima_journal_left_out_total": true, // members, and a counter
	}
	for _, key := range find(t, policyKey, source(t, "hw/verify/policy"), 40) {
		known[key] = true
	}
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			known[f.Tag.Get("toml")] = true
			if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
				walk(f.Type.Elem())
			} else if f.Type.Kind() == reflect.Struct {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[config.Config]())
	seen := 0
	for name, text := range texts(t) {
		for _, m := range regexp.MustCompile("(?:\\*\\*|`)([a-z][a-z0-9]*_[a-z0-9_]*)(?:\\*\\*|`)").FindAllStringSubmatch(text, -1) {
			if seen++; !known[m[1]] {
				t.Errorf("%s names %q, which is no key", name, m[1])
			}
		}
	}
	if seen < 25 {
		t.Errorf("only %d keys were looked at", seen)
	}
}

// What a text waives or demands are codes, and codes that can be waived or demanded.
func TestWaiversThatAreNamedExist(t *testing.T) {
	stands := make(map[string]bool)
	for _, c := range codes.All() {
		stands[c.Name] = c.Stands
	}
	seen := 0
	for name, text := range texts(t) {
		for _, m := range regexp.MustCompile(`(waive|demand) = (\[[^]]*\]|"[^"]*")|--(waive) ([a-z_,-]+)`).FindAllStringSubmatch(text, -1) {
			for _, code := range regexp.MustCompile(`[a-z_-]+`).FindAllString(m[2]+m[4], -1) {
				in, known := stands[code]
				if seen++; !known || in == slices.Contains(m, "demand") {
					t.Errorf("%s has %q: there is no such code to be named there", name, strings.TrimSpace(m[0]))
				}
			}
		}
	}
	if seen < 7 {
		t.Errorf("only %d codes were looked at", seen)
	}
}
