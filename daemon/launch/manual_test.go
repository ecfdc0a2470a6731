package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// table writes rows as they stand in the manual.
func table(rows [][]string) string {
	var out strings.Builder
	for _, cells := range rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | "))
	}
	return out.String()
}

// The manual has the code's tables, and its lists of what engines add.
func TestManual(t *testing.T) {
	name := filepath.Join("..", "..", "man", "cima-evidence.7.md")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	var rows, mounts [][]string
	for _, r := range fates {
		rows = append(rows, []string{r.path, strings.ReplaceAll(r.holds, " ", ", "), string(r.fate), r.what})
	}
	for _, d := range defaultMounts {
		options := strings.ReplaceAll(d.options, ",", ", ")
		switch {
		case d.destination == "/dev/shm":
			options += ", and any size, which is a limit unless 67108864 or 65536k"
		case d.readOnly:
			options += " (podman's, if the root file system is read-only)"
		case d.only != "":
			options += " (" + d.only + "'s)"
		}
		mounts = append(mounts, []string{d.destination, d.kind, options})
	}
	for head, want := range map[string]string{
		"| member | its members | fate | where, or why not |\n|---|---|---|---|\n": table(rows),
		"| destination | type | options |\n|---|---|---|\n":                        table(mounts),
	} {
		before, rest, ok := strings.Cut(text, head)
		if !ok {
			t.Fatalf("no table %q", head)
		}
		got, after, _ := strings.Cut(rest, "\n\n")
		if diff := cmp.Diff(want, got+"\n"); diff != "" && !*update {
			t.Errorf("%s: write it again with -update:\n%s", head, diff)
		}
		text = before + head + strings.TrimSuffix(want, "\n") + "\n\n" + after
	}
	if *update {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, section, _ := strings.Cut(text, "# LAUNCH\n")
	section, _, _ = strings.Cut(section, "# APPRAISAL\n")
	words := strings.Join(strings.Fields(strings.ReplaceAll(section, `\*`, "*")), " ")
	lists := slices.Concat(dockerCapabilities, maskedPaths, readOnlyPaths, loaders, inClear, profiles, engineTypes, []string{publicLabel})
	for _, list := range [][]Text{engineVariables, engineSysctls, addedOptions} {
		for _, item := range list {
			lists = append(lists, string(item))
		}
	}
	for file := range engineFiles {
		lists = append(lists, file)
	}
	for _, item := range lists {
		if !strings.Contains(words, item) {
			t.Errorf("cima-evidence(7), LAUNCH, has no %s", item)
		}
	}
}
