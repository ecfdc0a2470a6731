package packaging

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/cima-project/cima/daemon/config"
)

// The packaged configuration changes nothing. With its comment marks removed it
// has every key, at its default.
func TestConfigurationHasEveryKeyAtItsDefault(t *testing.T) {
	b, err := os.ReadFile("cimad.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"as packaged":          string(b),
		"with its defaults on": regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(string(b), "$1"),
	} {
		c, err := config.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := config.Default()
		if !sameConfig(reflect.ValueOf(c), reflect.ValueOf(want)) {
			t.Errorf("%s it gives\n%+v\nand must give the defaults\n%+v", name, c, want)
		}
	}
	whole := regexp.MustCompile(`(?m)^#(  [a-z_]+ = |\[|[a-z_]+ = )`).ReplaceAllString(string(b), "$1")
	// an example measures by a label, so labels must list it
	if _, err := config.Parse(strings.Replace(whole, "labels = []", `labels = ["tier"]`, 1)); err != nil {
		t.Errorf("with its examples on: %v", err)
	}
	meta, err := toml.Decode(whole, &struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, key := range meta.Keys() {
		there[key.String()] = true
	}
	n := 0
	var walk func(at toml.Key, typ reflect.Type)
	walk = func(at toml.Key, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := append(at[:len(at):len(at)], f.Tag.Get("toml"))
			if n++; !there[key.String()] {
				t.Errorf("%s isn't in packaging/cimad.toml", key)
			}
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				walk(key, inner)
			}
		}
	}
	walk(nil, reflect.TypeFor[config.Config]())
	if n < 20 {
		t.Errorf("only %d keys were checked", n)
	}
}

// sameConfig treats an empty list as none.
func sameConfig(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !sameConfig(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Map:
		return a.Len() == 0 && b.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface())
	}
	return a.Interface() == b.Interface()
}
