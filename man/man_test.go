// Package man answers: is it in the manual? Every flag, key, method and error
// code in the code stands in its page.
package man

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon"
	"github.com/cima-project/cima/hw/verify"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// source is the code of a folder, tests apart.
func source(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

// find returns the first group of every match, and fails where there are
// fewer than least: a pattern that no longer fits would find nothing wrong.
func find(t *testing.T, pattern, text string, least int) []string {
	t.Helper()
	var found []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	if len(found) < least {
		t.Fatalf("%q matches %d times, %d are known", pattern, len(found), least)
	}
	return found
}

func TestFlagsAreInTheirPages(t *testing.T) {
	for _, tt := range []struct {
		dir, page string
		least     int
	}{
		{"rpc/cimactl", "cimactl.1", 6},
		{"daemon", "cimad.8", 4},
		{"daemon/cimad-sim", "cimad.8", 5},
	} {
		text := page(t, tt.page)
		for _, flag := range find(t, `(?:Flags\(\)|set)\.[A-Z]\w+\((?:&[\w.]+, )?"([a-z-]+)"`, source(t, tt.dir), tt.least) {
			if !strings.Contains(text, "**--"+flag+"**") {
				t.Errorf("--%s of %s isn't in %s", flag, tt.dir, tt.page)
			}
		}
	}
}

func TestCommandsAreInTheirPage(t *testing.T) {
	text := page(t, "cimactl.1")
	for _, verb := range find(t, `Use:\s+"([a-z]+)`, source(t, "rpc/cimactl"), 8) {
		if verb != "cimactl" && !strings.Contains(text, "**"+verb) && !strings.Contains(text, " "+verb+"**") {
			t.Errorf("cimactl %s isn't in cimactl.1", verb)
		}
	}
}

func TestKeysAreInTheirPage(t *testing.T) {
	text := page(t, "cimad.toml.5")
	keys := 0
	var walk func(table string, typ reflect.Type)
	walk = func(table string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			key := f.Tag.Get("toml")
			typ := f.Type
			if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct {
				typ = typ.Elem() // an array of tables
			}
			if typ.Kind() == reflect.Struct {
				if !strings.Contains(text, "["+key+"]") {
					t.Errorf("[%s] isn't in cimad.toml.5", key)
				}
				walk(key+".", typ)
				continue
			}
			keys++
			if !strings.Contains(text, "**"+key+"** =") {
				t.Errorf("%s%s isn't in cimad.toml.5", table, key)
			}
		}
	}
	walk("", reflect.TypeFor[daemon.Config]())
	if keys < 15 {
		t.Errorf("only %d keys were looked at", keys)
	}
}

func TestMethodsAndErrorsAreInTheirPage(t *testing.T) {
	text := page(t, "cima-api.7")
	names := source(t, "rpc")
	for _, method := range find(t, `rpc\.(Method\w+)`, source(t, "daemon"), 4) {
		name := find(t, method+`\s+= "([\w.]+)"`, names, 1)[0]
		if !strings.Contains(text, "**"+name+"**") {
			t.Errorf("%s isn't in cima-api.7", name)
		}
	}
	for _, code := range find(t, `Code = (-320\d\d)`, names, 8) {
		if !strings.Contains(text, "| "+code+" |") {
			t.Errorf("error %s isn't in cima-api.7", code)
		}
	}
}

func TestPolicyKeysAreInTheirPage(t *testing.T) {
	text := page(t, "cima-relying-party.7")
	keys := 0
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := f.Tag.Get("toml")
			keys++
			if !regexp.MustCompile(`\*\*(\[\[?)?([\w.]*\.)?` + key + `(\]\]?)?( = \w+)?\*\*|\*` + key + `\*`).MatchString(text) {
				t.Errorf("%s.%s isn't in cima-relying-party.7", typ.Name(), key)
			}
			for e := f.Type; ; e = e.Elem() {
				if e.Kind() == reflect.Struct {
					walk(e)
				}
				if e.Kind() != reflect.Pointer && e.Kind() != reflect.Slice {
					break
				}
			}
		}
	}
	walk(reflect.TypeFor[verify.Policy]())
	if keys < 40 {
		t.Errorf("only %d keys were looked at", keys)
	}
}
