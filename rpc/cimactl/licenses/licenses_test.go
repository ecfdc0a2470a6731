package licenses

import (
	"bytes"
	"encoding/json/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// programs of each package, and the systems that they are built for.
var programs = map[string]struct {
	dirs    []string
	systems []string
}{
	"cimad":     {[]string{"../../../daemon/cimad", "../../../daemon/cima-imds"}, []string{"linux"}},
	"cimad-sim": {[]string{"../../../daemon/cimad-sim"}, []string{"linux"}},
	"cimactl":   {[]string{".."}, []string{"linux", "darwin", "windows"}},
}

// goList runs go list for a system.
func goList(t *testing.T, system string, args ...string) []string {
	t.Helper()
	c := exec.Command("go", append([]string{"list"}, args...)...)
	c.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list %q: %v", args, err)
	}
	return strings.Fields(string(out))
}

// byPrograms are the programs that link each module, as Go says.
func byPrograms(t *testing.T) map[string][]string {
	t.Helper()
	links := map[string][]string{}
	for name, p := range programs {
		for _, system := range p.systems {
			for _, module := range append(goList(t, system, append([]string{"-deps", "-f", "{{with .Module}}{{.Path}}{{end}}"}, p.dirs...)...), "go") {
				if !slices.Contains(links[module], name) {
					links[module] = append(links[module], name)
				}
			}
		}
	}
	return links
}

// Each module that a program links is listed, with its programs, and no other is.
func TestEveryLinkedModuleIsListed(t *testing.T) {
	modules, err := linked()
	if err != nil {
		t.Fatal(err)
	}
	links := byPrograms(t)
	if len(links) < 15 {
		t.Fatalf("only %d modules are linked: is this the right list?", len(links))
	}
	for _, m := range modules {
		want := links[m.Module]
		delete(links, m.Module)
		slices.Sort(want)
		got := slices.Sorted(slices.Values(m.Programs))
		if !slices.Equal(got, want) {
			t.Errorf("modules.tsv: %s must name the programs %q, not %q", m.Module, want, got)
		}
	}
	for module, by := range links {
		t.Errorf("modules.tsv lacks %s, which is linked into %q: add a line, its LICENSE below texts, and run packaging/copyright.sh >packaging/debian/copyright", module, by)
	}
}

// What a module gives with its code is here, byte by byte. Modules of tests are listed
// too: release tarballs hold them.
func TestTextsAreTheModules(t *testing.T) {
	all, err := entries()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range all {
		listed[m.Module] = true
		sameTexts(t, m, dirOf(t, m.Module))
	}
	tested := goList(t, "linux", "-deps", "-test", "-f", "{{with .Module}}{{.Path}}{{end}}", "../../../...")
	slices.Sort(tested)
	for _, module := range slices.Compact(tested) {
		if !listed[module] {
			t.Errorf("modules.tsv lacks %s, which tests use: add a line, and its LICENSE below texts", module)
		}
	}
	err = filepath.WalkDir("texts", func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !listed[strings.TrimPrefix(filepath.Dir(path), "texts/")] {
			t.Errorf("%s is of no module that modules.tsv lists", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func dirOf(t *testing.T, module string) string {
	t.Helper()
	if module == "go" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	dir := goList(t, "linux", "-m", "-f", "{{.Dir}}", module)
	if len(dir) == 0 {
		// a module of another system that was never fetched here
		run(t, "go", "mod", "download", module)
		dir = goList(t, "linux", "-m", "-f", "{{.Dir}}", module)
	}
	return dir[0]
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

var legal = regexp.MustCompile(`^(?i)(licen[cs]e|copying|notice|patents|unlicense)`)

func sameTexts(t *testing.T, m entry, dir string) {
	t.Helper()
	there, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("%s: %v", m.Module, err)
	}
	n := 0
	for _, f := range there {
		if f.IsDir() || !legal.MatchString(f.Name()) {
			continue
		}
		n++
		want, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(m.Texts, func(x text) bool { return x.Name == f.Name() })
		if at < 0 || m.Texts[at].Text != string(want) {
			t.Errorf("texts/%s/%s must be the module's file %s", m.Module, f.Name(), f.Name())
		}
	}
	if n == 0 || n != len(m.Texts) {
		t.Errorf("%s has %d legal texts, texts/%s has %d", m.Module, n, m.Module, len(m.Texts))
	}
}

// The identifiers fit the texts.
func TestIdentifiersFitTheTexts(t *testing.T) {
	all, err := entries()
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{
		"Apache-2.0":         "Apache License",
		"BSD-3-Clause":       "be used to endorse",
		"MIT":                "Permission is hereby granted, free of charge",
		"MIT AND Apache-2.0": "two different licenses: MIT and Apache",
	}
	for _, m := range all {
		var whole strings.Builder
		for _, x := range m.Texts {
			whole.WriteString(strings.Join(strings.Fields(x.Text), " "))
		}
		word, known := says[m.License]
		if !known || !strings.Contains(whole.String(), word) {
			t.Errorf("%s: no text of %q is there", m.Module, m.License)
		}
		if m.Module != "go" && strings.Contains(m.License, "GPL") {
			t.Errorf("%s: %s may not be linked into programs under Apache-2.0", m.Module, m.License)
		}
	}
}

func TestCommandPrintsEveryText(t *testing.T) {
	say := func(args ...string) string {
		t.Helper()
		c := Command()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(args)
		if err := c.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	modules, err := linked()
	if err != nil {
		t.Fatal(err)
	}
	plain := say()
	for _, m := range modules {
		if !strings.Contains(plain, "==== "+m.Module+": "+m.License) {
			t.Errorf("it must name %s", m.Module)
		}
		for _, x := range m.Texts {
			if !strings.Contains(plain, strings.TrimRight(x.Text, "\n")) {
				t.Errorf("it must print %s of %s", x.Name, m.Module)
			}
		}
	}
	if strings.Contains(plain, "go-cmp") {
		t.Error("it must not name what only tests use")
	}
	var got []entry
	if err := json.Unmarshal([]byte(say("--json")), &got); err != nil || len(got) != len(modules) {
		t.Errorf("--json: %d modules of %d: %v", len(got), len(modules), err)
	}
}

// What the shell makes for packages holds the same texts.
func TestPackagesHaveTheSameTexts(t *testing.T) {
	modules, err := linked()
	if err != nil {
		t.Fatal(err)
	}
	for name := range programs {
		out, err := exec.Command("sh", "../../../packaging/licenses.sh", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		var mine []entry
		for _, m := range modules {
			if slices.Contains(m.Programs, name) {
				mine = append(mine, m)
			}
		}
		if err := write(&want, mine); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out, want.Bytes()) || len(mine) < 10 {
			t.Errorf("packaging/licenses.sh %s prints %d bytes, and must print %d", name, len(out), want.Len())
		}
	}
}
