package cima

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

// ARCHITECTURE.md names each package with the question of its doc, word for word, and
// with names to begin at that exist.
func TestWhatArchitectureSays(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string][]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/0-9-]+)` \\| ([^|]*) \\|([^|]*)\\|$").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2:]
	}
	files, _ := parsed(t)
	for _, p := range list(t) {
		dir := strings.TrimPrefix(p.ImportPath, module)
		row := rows[dir]
		delete(rows, dir)
		if len(p.GoFiles) == 0 || p.Name == "main" {
			continue
		}
		_, question, _ := strings.Cut(strings.Join(strings.Fields(p.Doc), " "), " answers: ")
		question, _, _ = strings.Cut(question, "?")
		if row == nil || !strings.HasPrefix(row[0], question+"?") {
			t.Errorf("ARCHITECTURE.md must have the row | `%s` | %s? | … |", dir, question)
			continue
		}
		names := declared(files[dir])
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			if !names[m[1]] {
				t.Errorf("ARCHITECTURE.md: %s has no %s", dir, m[1])
			}
		}
	}
	for dir := range rows {
		t.Errorf("ARCHITECTURE.md: there is no package %s", dir)
	}
}

// declared are the names of a package: Name, and Type.Method.
func declared(files []*ast.File) map[string]bool {
	names := make(map[string]bool)
	for _, f := range files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil {
					names[receiver(d.Recv.List[0].Type)+"."+d.Name.Name] = true
				} else {
					names[d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						names[s.Name.Name] = true
					}
				}
			}
		}
	}
	return names
}
