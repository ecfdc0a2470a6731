package server

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// Every exported name has a doc comment: types, functions, methods and values.
func TestExportedNamesAreDocumented(t *testing.T) {
	set := token.NewFileSet()
	var files []*ast.File
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(path, "_test.go") {
			files = append(files, f)
		}
	}
	p, err := doc.NewFromFiles(set, files, "github.com/cima-project/cima/rpc/server")
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	said := func(name, doc string) {
		names++
		if strings.TrimSpace(doc) == "" {
			t.Errorf("%s has no doc", name)
		}
	}
	// A block of values is documented as a whole, or value by value.
	values := func(list []*doc.Value) {
		for _, v := range list {
			for _, spec := range v.Decl.Specs {
				s := spec.(*ast.ValueSpec)
				said(strings.Join(v.Names, ", "), v.Doc+s.Doc.Text()+s.Comment.Text())
			}
		}
	}
	funcs := func(of string, list []*doc.Func) {
		for _, f := range list {
			said(of+f.Name, f.Doc)
		}
	}
	values(p.Consts)
	values(p.Vars)
	funcs("", p.Funcs)
	for _, typ := range p.Types {
		said(typ.Name, typ.Doc)
		values(typ.Consts)
		values(typ.Vars)
		funcs("", typ.Funcs)
		funcs(typ.Name+".", typ.Methods)
	}
	if names < 8 {
		t.Errorf("only %d names were looked at", names)
	}
}
