package predict

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Flags that older versions have, that stand under another name today, and podman's
// global ones, which it takes behind the verb, too.
var elsewhere = map[Engine][]string{
	Docker: nil,
	Podman: strings.Fields("dns-opt healthcheck-command healthcheck-interval healthcheck-retries healthcheck-start-period healthcheck-timeout net override-arch override-os override-variant storage-opt"),
}

// Every flag of the engines has a fate, and what has one is a flag.
func TestEveryFlagHasAFate(t *testing.T) {
	for engine, file := range map[Engine]string{Docker: "docker-29.8.flags", Podman: "podman-6.0.flags"} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(string(text))
		if len(want) < 100 {
			t.Fatalf("%s has only %d flags", file, len(want))
		}
		tables := flagTables()[engine]
		var have []string
		for _, f := range tables.run {
			if slices.Contains(have, f.name) {
				t.Errorf("%s: --%s is there twice", engine, f.name)
			}
			have = append(have, f.name)
		}
		for _, name := range want {
			if !slices.Contains(have, name) {
				t.Errorf("%s: --%s has no fate", engine, name)
			}
		}
		for _, f := range tables.run {
			global := slices.ContainsFunc(tables.global, func(g option) bool { return g.name == f.name })
			if !slices.Contains(want, f.name) && !slices.Contains(elsewhere[engine], f.name) && !(engine == Podman && global) {
				t.Errorf("%s has no --%s", engine, f.name)
			}
		}
	}
}

// The engines of this machine have no flag without a fate, and a flag takes a value
// here if it takes one there.
func TestFlagsOfThisMachine(t *testing.T) {
	// Between a flag and its description are at least two spaces.
	form := regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([a-z0-9-]+)(?: (\S+))?`)
	for _, engine := range []Engine{Docker, Podman} {
		for _, verb := range []string{"run", "create"} {
			out, err := exec.Command(string(engine), verb, "--help").Output()
			if err != nil {
				t.Logf("left out: no %s on this machine", engine)
				break
			}
			found := form.FindAllStringSubmatch(string(out), -1)
			if len(found) < 80 {
				t.Errorf("%s %s --help has only %d flags", engine, verb, len(found))
			}
			for _, f := range found {
				table := flagTables()[engine].run
				i := slices.IndexFunc(table, func(o option) bool { return o.name == f[2] })
				switch {
				case i < 0:
					t.Errorf("%s %s: --%s has no fate", engine, verb, f[2])
				case table[i].short != f[1]:
					t.Errorf("%s %s: --%s has the letter %q, and here %q", engine, verb, f[2], f[1], table[i].short)
				case (table[i].kind == boolean) != (f[3] == ""):
					t.Errorf("%s %s: --%s takes %q, and here kind %d", engine, verb, f[2], f[3], table[i].kind)
				}
			}
		}
	}
}
