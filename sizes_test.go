package cima

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxLines   = 2400 // of a package, tests left out
	maxMethods = 35   // of a type
)

// parsed are the files of the packages that ship, by folder: tests are left out, and
// the programs below packaging, which are tests.
func parsed(t *testing.T) (files map[string][]*ast.File, lines map[string]int) {
	t.Helper()
	files, lines = make(map[string][]*ast.File), make(map[string]int)
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains([]string{"testdata", ".cache", ".git", "packaging"}, e.Name()):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
		dir := filepath.ToSlash(filepath.Dir(path))
		files[dir] = append(files[dir], f)
		lines[dir] += bytes.Count(text, []byte("\n"))
		return err
	})
	if err != nil || len(files) < 30 {
		t.Fatalf("%d packages were read: %v", len(files), err)
	}
	return files, lines
}

// A package can be read in one go.
func TestSizesOfPackages(t *testing.T) {
	_, lines := parsed(t)
	for dir, n := range lines {
		if n > maxLines {
			t.Errorf("%s has %d lines: it must have at most %d", dir, n, maxLines)
		}
	}
}

// No type does everything.
func TestMethodsOfTypes(t *testing.T) {
	files, _ := parsed(t)
	for dir, list := range files {
		methods := make(map[string]int)
		for _, f := range list {
			for _, d := range f.Decls {
				if d, ok := d.(*ast.FuncDecl); ok && d.Recv != nil {
					methods[receiver(d.Recv.List[0].Type)]++
				}
			}
		}
		for name, n := range methods {
			if n > maxMethods {
				t.Errorf("%s.%s has %d methods: it must have at most %d", dir, name, n, maxMethods)
			}
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}
