// Package man answers: is it in the manual? Every flag, key, method and error
// code in the code stands in its page.
package man

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/rpc"
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// source is the code of a folder and those below it, tests apart.
func source(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(filepath.Join("..", dir), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		b.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
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
	for _, verb := range find(t, `Use:\s+"([a-z-]+)`, source(t, "rpc/cimactl"), 8) {
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
	walk("", reflect.TypeFor[config.Config]())
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

// The keys of a policy, and the codes of what is not proved, stand in their page.
func TestPolicyKeysAreInTheirPage(t *testing.T) {
	text := page(t, "cima-policy.5")
	for _, key := range find(t, `\.(?:Text|Flag|Number|Time|Duration|Texts|One|Named|All)\("([a-z_0-9]+)"`, source(t, "hw/verify/policy"), 40) {
		if !regexp.MustCompile(`\*\*(\[\[?)?` + key + `[.\]* =]|\*` + key + `\*`).MatchString(text) {
			t.Errorf("the key %s isn't in cima-policy.5", key)
		}
	}
	for _, c := range codes.All() {
		way := "told"
		if c.Stands {
			way = "in the way"
		}
		if row := fmt.Sprintf("| %s | %s | %s | %s |", c.Name, way, c.What, c.Reason); !strings.Contains(text, row) {
			t.Errorf("cima-policy.5 has no row %q", row)
		}
	}
	// Steps that failed, and what is proved, have codes as well.
	code := source(t, "hw/verify")
	for _, c := range append(find(t, `Step\w+ += "([a-z-]+)"`, code, 23), find(t, `(?:leaves|proves)\("([a-z-]+)"`, code, 10)...) {
		if !strings.Contains(text, "*"+c+"*") && !strings.Contains(text, "\n| "+c+" | ") {
			t.Errorf("the code %s isn't in cima-policy.5", c)
		}
	}
	if rows := strings.Count(text, " | told | ") + strings.Count(text, " | in the way | "); rows != len(codes.All()) {
		t.Errorf("cima-policy.5 has %d codes, there are %d", rows, len(codes.All()))
	}
}

// The examples of the page are those that are read in tests. There digests are whole.
func TestPolicyExamples(t *testing.T) {
	text := page(t, "cima-policy.5")
	for _, name := range []string{"app", "platform", "bank"} {
		raw, err := os.ReadFile(filepath.Join("..", "hw", "verify", "policy", "testdata", name+".toml"))
		if err != nil {
			t.Fatal(err)
		}
		short := regexp.MustCompile(`"([0-9a-f]{2})[0-9a-f]{94}"`).ReplaceAllString(string(raw), `"$1…"`)
		short = regexp.MustCompile(`sha256:([0-9a-f]{2})[0-9a-f]{62}"`).ReplaceAllString(short, `sha256:$1…"`)
		short = strings.ReplaceAll(short, strings.Repeat("6f1d", 16), "6f1d…")
		var indented strings.Builder
		for line := range strings.SplitSeq(strings.TrimSpace(short), "\n") {
			if line != "" {
				indented.WriteString("    " + line)
			}
			indented.WriteByte('\n')
		}
		if !strings.Contains(text, indented.String()) {
			t.Errorf("cima-policy.5 has another example than %s.toml:\n%s", name, &indented)
		}
	}
}

// Pages that a page refers to are there, and it names them all at its end.
func TestReferencesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("*.[1-8].md")
	if err != nil || len(pages) < 7 {
		t.Fatal(pages, err)
	}
	for _, file := range pages {
		name := strings.TrimSuffix(file, ".md")
		text := page(t, name)
		before, also, ok := strings.Cut(text, "# SEE ALSO\n")
		if !ok {
			t.Errorf("%s has no SEE ALSO", name)
		}
		for _, m := range regexp.MustCompile(`\*\*(cima[\w.-]*)\*\*\((\d)\)`).FindAllStringSubmatch(before, -1) {
			other := m[1] + "." + m[2]
			if _, err := os.Stat(other + ".md"); err != nil {
				t.Errorf("%s refers to %s, which is no page", name, other)
			}
			if other != name && !strings.Contains(also, m[0]) {
				t.Errorf("%s refers to %s, and not in SEE ALSO", name, other)
			}
		}
	}
}

// The example of a configuration is one.
func TestExampleOfConfiguration(t *testing.T) {
	_, example, ok := strings.Cut(page(t, "cimad.toml.5"), "\n# EXAMPLE\n")
	example, _, closed := strings.Cut(example, "\n# ")
	if !ok || !closed {
		t.Fatal("no example")
	}
	var lines []string
	for line := range strings.Lines(example) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, code)
		}
	}
	c, err := config.Parse(strings.Join(lines, ""))
	if err != nil || len(c.Access) != 1 || len(c.System) != 1 || c.Exec.Mode != "measure" {
		t.Errorf("%v: %+v", err, c)
	}
}

// The journal's messages are those that the daemon writes.
func TestMessagesOfTheJournal(t *testing.T) {
	_, section, _ := strings.Cut(page(t, "cimad.8"), "\n# JOURNAL\n")
	section, _, _ = strings.Cut(section, "\n# ")
	code := source(t, "daemon")
	for _, line := range find(t, `(?m)^(".*")$`, section, 8) {
		for _, message := range find(t, `("[^"]+")`, line, 1) {
			if !strings.Contains(code, message) {
				t.Errorf("the daemon doesn't write %s", message)
			}
		}
	}
}

// Values in the page are the defaults. Tables that stand several times have none.
func TestDefaultsAreInTheirPage(t *testing.T) {
	text, _, _ := strings.Cut(page(t, "cimad.toml.5"), "\n# EXAMPLE\n")
	var b strings.Builder
	several := false
	for line := range strings.Lines(text) {
		if table, ok := strings.CutPrefix(line, "## "); ok {
			if several = strings.HasPrefix(table, "[["); !several {
				b.WriteString(table)
			}
		} else if strings.HasPrefix(line, "**") && !several {
			for _, m := range regexp.MustCompile(`\*\*(\w+)\*\* = ("[^"]*"|[^,\n]+)`).FindAllStringSubmatch(line, -1) {
				b.WriteString(m[1] + " = " + m[2] + "\n")
			}
		}
	}
	got, err := config.Parse(b.String())
	if n := strings.Count(b.String(), " = "); err != nil || n < 30 {
		t.Fatalf("%d keys, %v in\n%s", n, err, &b)
	}
	// Printed, for an empty list and none are the same here.
	if got, want := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", config.Default()); got != want {
		t.Errorf("the page says\n%s\nand these are the defaults:\n%s", got, want)
	}
}

// Members of the daemon's status stand next to the method that gives it.
func TestStatusIsInItsPage(t *testing.T) {
	_, text, _ := strings.Cut(page(t, "cima-api.7"), "**GetStatus**")
	text, _, _ = strings.Cut(text, "\n# ")
	for _, typ := range []reflect.Type{reflect.TypeFor[rpc.Status](), reflect.TypeFor[rpc.LogStatus]()} {
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name != "" && !strings.Contains(text, "*"+name+"*") {
				t.Errorf("%s of %s isn't in cima-api.7", name, typ.Name())
			}
		}
	}
}

// Members of an attestation result, and its verdicts, stand in the table of it.
func TestResultIsInItsPage(t *testing.T) {
	_, text, _ := strings.Cut(page(t, "cima-evidence.7"), "\n## Result\n")
	text, _, _ = strings.Cut(text, "\n# ")
	for _, typ := range []reflect.Type{reflect.TypeFor[verify.Result](), reflect.TypeFor[verify.Step](), reflect.TypeFor[verify.Comparison]()} {
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name != "" && !strings.Contains(text, "*"+name+"*") {
				t.Errorf("%s of %s isn't in cima-evidence.7", name, typ.Name())
			}
		}
	}
	for _, v := range []verify.Verdict{verify.Trusted, verify.Authentic, verify.NotTrusted, verify.NotAuthentic, verify.Malformed} {
		if !strings.Contains(text, `"`+string(v)+`"`) {
			t.Errorf("verdict %q isn't in cima-evidence.7", v)
		}
	}
}

// Pages fit a screen of 80 columns as readers see them, tables and examples too.
func TestPagesFitTheScreen(t *testing.T) {
	viewers := map[string][]string{"mandoc": {"-Tutf8"}, "man": {"-l"}}
	dir := t.TempDir()
	if out, err := exec.Command("./build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.[1-8]"))
	if err != nil || len(pages) < 8 {
		t.Fatal(pages, err)
	}
	seen := 0
	for viewer, args := range viewers {
		if _, err := exec.LookPath(viewer); err != nil {
			continue
		}
		for _, page := range pages {
			view := exec.Command(viewer, append(args, page)...)
			view.Env = append(os.Environ(), "MANWIDTH=80", "MANPAGER=cat", "LC_ALL=C.UTF-8")
			out, err := view.Output()
			if err != nil {
				t.Fatalf("%s %s: %v", viewer, page, err)
			}
			text := regexp.MustCompile(`.\x08|\x1b\[[0-9;]*m`).ReplaceAllString(string(out), "")
			if n := strings.Count(text, "\n"); n < 50 {
				t.Errorf("%s shows %d lines of %s", viewer, n, page)
			}
			for line := range strings.Lines(text) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
					t.Errorf("%s, %s: %d columns: %s", viewer, filepath.Base(page), n, line)
				}
			}
		}
		seen++
	}
	if seen == 0 {
		t.Skip("left out: no mandoc and no man")
	}
}
