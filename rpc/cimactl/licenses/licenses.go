// Package licenses answers: whose software is linked into our programs, and under which licences?
//
// modules.tsv lists the modules, one in a line: module, SPDX expression, the programs
// that link it ("tests" where none does), copyright. Each has its own texts below texts,
// byte by byte. Packages are made from the same files (packaging/licenses.sh), so that
// they need not run a program to learn this.
package licenses

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed modules.tsv texts
var files embed.FS

// entry is what the programs owe to one module.
type entry struct {
	Module    string   `json:"module"` // "go" is Go's own library and runtime
	License   string   `json:"license"`
	Programs  []string `json:"programs"`
	Copyright []string `json:"copyright"`
	Texts     []text   `json:"texts"`
}

// text is a file that goes where the program goes.
type text struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// linked are the modules that a program links.
func linked() ([]entry, error) {
	all, err := entries()
	if err != nil {
		return nil, err
	}
	var out []entry
	for _, e := range all {
		if e.Programs[0] != "tests" {
			out = append(out, e)
		}
	}
	return out, nil
}

func entries() ([]entry, error) {
	list, err := files.ReadFile("modules.tsv")
	if err != nil {
		return nil, err
	}
	var out []entry
	for line := range strings.Lines(string(list)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 4 {
			return nil, fmt.Errorf("modules.tsv: a line must have 4 fields: %q", line)
		}
		texts, err := textsOf(fields[0])
		if err != nil {
			return nil, err
		}
		out = append(out, entry{fields[0], fields[1], strings.Fields(fields[2]), strings.Split(fields[3], "; "), texts})
	}
	return out, nil
}

// textsOf are the files of one module; those of modules below it are theirs.
func textsOf(module string) ([]text, error) {
	dir := path.Join("texts", module)
	found, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, fmt.Errorf("the licence of %s is missing: %w", module, err)
	}
	var out []text
	for _, f := range found {
		if f.IsDir() {
			continue
		}
		b, err := files.ReadFile(path.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, text{f.Name(), string(b)})
	}
	return out, nil
}
