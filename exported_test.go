package cima

import (
	"encoding/json/jsontext"
	json "encoding/json/v2"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// source is what the checks need of a package, as go list gives it.
type source struct {
	ImportPath, Name, Dir, Export             string
	GoFiles, TestGoFiles, XTestGoFiles        []string
	IgnoredGoFiles, TestImports, XTestImports []string
	Imports, Deps                             []string
	Standard                                  bool
	dir                                       string // from the root of the tree
	files, tests, external                    []*ast.File
	checked                                   *types.Package
}

// A universe is all packages of the module, type-checked from their sources, so
// that each name is one object wherever it is used.
type universe struct {
	t       *testing.T
	files   *token.FileSet
	ours    []*source // in the order of their imports
	byPath  map[string]*source
	exports map[string]string // import path of another module's package: its export data
	gc      types.Importer
	used    map[types.Object]map[string]bool // by which folders
	made    map[types.Object]map[string]bool // types of literals
	literal []*types.Interface               // interfaces without a name
}

func goList(t *testing.T, args ...string) []*source {
	t.Helper()
	command := exec.Command("go", append([]string{"list"}, args...)...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []*source
	for d := jsontext.NewDecoder(strings.NewReader(string(out))); ; {
		s := new(source)
		err := json.UnmarshalDecode(d, s, json.RejectUnknownMembers(false))
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
}

// load parses and checks the module's packages and their tests.
func load(t *testing.T) *universe {
	t.Helper()
	u := &universe{t: t, files: token.NewFileSet(), byPath: make(map[string]*source), exports: make(map[string]string), used: make(map[types.Object]map[string]bool), made: make(map[types.Object]map[string]bool)}
	u.gc = importer.ForCompiler(u.files, "gc", func(path string) (io.ReadCloser, error) {
		if u.exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(u.exports[path])
	})
	const fields = "-json=ImportPath,Name,Dir,Export,GoFiles,TestGoFiles,XTestGoFiles,IgnoredGoFiles,TestImports,XTestImports,Imports,Standard"
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-deps", "-export", fields, "./..."}
	for _, s := range goList(t, "-json=ImportPath,TestImports,XTestImports", "./...") {
		for _, i := range append(s.TestImports, s.XTestImports...) {
			if i != "C" && !slices.Contains(args, i) && !strings.HasPrefix(i, module) {
				args = append(args, i)
			}
		}
	}
	for _, s := range goList(t, args...) {
		dir, err := filepath.Rel(root, s.Dir)
		if err != nil || s.Standard || !strings.HasPrefix(s.ImportPath+"/", module) {
			u.exports[s.ImportPath] = s.Export
			continue
		}
		s.dir = filepath.ToSlash(dir)
		u.ours = append(u.ours, s)
		u.byPath[s.ImportPath] = s
	}
	for _, s := range u.ours {
		s.files, s.tests, s.external = u.parse(s, s.GoFiles), u.parse(s, s.TestGoFiles), u.parse(s, s.XTestGoFiles)
		s.checked = u.check(s, s.ImportPath, s.files)
	}
	for _, s := range u.ours {
		if len(s.tests) > 0 {
			u.check(s, s.ImportPath, append(slices.Clone(s.files), s.tests...))
		}
		if len(s.external) > 0 {
			u.check(s, s.ImportPath+"_test", s.external)
		}
	}
	return u
}

func (u *universe) parse(s *source, names []string) []*ast.File {
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(u.files, filepath.Join(s.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			u.t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// Import gives a package of the module as it was checked, or another by its export data.
func (u *universe) Import(path string) (*types.Package, error) {
	if s := u.byPath[path]; s != nil {
		return s.checked, nil
	}
	return u.gc.Import(path)
}

// check type-checks files as a package, and notes what they use. Tests may use what
// another test file of a package declares, so that errors don't end it.
func (u *universe) check(s *source, path string, files []*ast.File) *types.Package {
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object), Types: make(map[ast.Expr]types.TypeAndValue)}
	c := types.Config{Importer: u, Error: func(error) {}, FakeImportC: true}
	p, _ := c.Check(path, u.files, files, info)
	note := func(o types.Object) {
		if o.Pkg() == nil {
			return
		}
		if o = origin(o); u.used[o] == nil {
			u.used[o] = make(map[string]bool)
		}
		u.used[o][s.dir] = true
	}
	for _, o := range info.Uses {
		note(o)
	}
	for e, tv := range info.Types {
		if named, ok := tv.Type.(*types.Named); ok {
			if _, literal := e.(*ast.CompositeLit); literal {
				o := named.Origin().Obj()
				if u.made[o] == nil {
					u.made[o] = make(map[string]bool)
				}
				u.made[o][s.dir] = true
			}
		}
		if _, ok := e.(*ast.InterfaceType); ok && tv.IsType() {
			if i, ok := tv.Type.Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
				u.literal = append(u.literal, i)
			}
		}
	}
	return p
}

func origin(o types.Object) types.Object {
	switch o := o.(type) {
	case *types.Var:
		return o.Origin()
	case *types.Func:
		return o.Origin()
	}
	return o
}

func madeOutside(by map[string]bool, dir string) bool {
	for other := range by {
		if other != dir {
			return true
		}
	}
	return false
}

// outside reports whether another folder uses a name.
func (u *universe) outside(s *source, o types.Object) bool {
	for dir := range u.used[origin(o)] {
		if dir != s.dir {
			return true
		}
	}
	return false
}

// public are packages whose exported names are for programs of others.
var public = []string{"rpc", "rpc/atls", "rpc/compat", "rpc/quote", "rpc/tree", "rpc/vectors", "hw/verify", "hw/verify/dcap", "hw/verify/peers", "hw/verify/policy", "hw/verify/replay"}

// forReaders are exported names that no other package uses, and why they stay.
var forReaders = map[string]string{
	"hw.QGSError":             "what the host's quoting service answered, for errors.As",
	"hw.QGSError.Code":        "the same",
	"rpc/form.Content.Quote":  "what a form holds, for programs that read it",
	"rpc/form.Content.Claims": "the same",
	"rpc/form.Content.Events": "the same",
	"rpc/form.Event.RTMR":     "the same",
	"rpc/form.Event.Type":     "the same",
	"rpc/form.Event.Digest":   "the same",
	"rpc/form.Event.Data":     "the same",
}

// No package exports a name that no other package uses, save what others' programs
// use, methods that an interface wants, and members of JSON and TOML.
func TestExportedNamesAreUsed(t *testing.T) {
	u := load(t)
	interfaces := u.interfaces()
	needed := u.needed()
	elsewhere := u.namesElsewhere()
	seen := 0
	for _, s := range u.ours {
		if s.Name == "main" || slices.Contains(public, s.dir) || s.dir == "packaging" || strings.HasPrefix(s.dir, "packaging/") {
			continue
		}
		report := func(o types.Object, name string) {
			if seen++; o.Exported() && !needed[o] && forReaders[s.dir+"."+name] == "" && !u.outside(s, o) && !elsewhere[s.ImportPath+"."+name] && !elsewhere[s.ImportPath+".*."+o.Name()] {
				t.Errorf("%s: %s.%s is exported, and no other package uses it", u.files.Position(o.Pos()), s.dir, name)
			}
		}
		scope := s.checked.Scope()
		for _, name := range scope.Names() {
			o := scope.Lookup(name)
			report(o, name)
			named, ok := o.Type().(*types.Named)
			if tn, isType := o.(*types.TypeName); !ok || !isType || tn.IsAlias() || !o.Exported() {
				continue
			}
			for m := range named.Methods() {
				if m.Exported() && !satisfies(named, m, interfaces) {
					report(m, name+"."+m.Name())
				}
			}
			// Others may leave members of a struct that they make at their defaults.
			if fields, ok := named.Underlying().(*types.Struct); ok && !madeOutside(u.made[o], s.dir) {
				for i := range fields.NumFields() {
					f, tag := fields.Field(i), reflect.StructTag(fields.Tag(i))
					if tag.Get("json") == "" && tag.Get("toml") == "" && !f.Embedded() {
						report(f, name+"."+f.Name())
					}
				}
			}
		}
	}
	if seen < 500 {
		t.Errorf("only %d names were looked at", seen)
	}
}

// needed are names that other packages don't write, and need: types in what they use,
// and the other constants of a group of which they use one.
func (u *universe) needed() map[types.Object]bool {
	needed := make(map[types.Object]bool)
	var reach func(t types.Type)
	reach = func(t types.Type) {
		switch t := t.(type) {
		case *types.Named:
			for a := range t.TypeArgs().Types() {
				reach(a)
			}
			if u.byPath[pathOf(t.Obj())] == nil || needed[t.Origin().Obj()] {
				return
			}
			needed[t.Origin().Obj()] = true
			reach(t.Origin().Underlying())
		case *types.Struct:
			for f := range t.Fields() {
				if f.Exported() {
					reach(f.Type())
				}
			}
		case *types.Interface:
			for m := range t.Methods() {
				reach(m.Type())
			}
		case *types.Signature:
			for v := range t.Params().Variables() {
				reach(v.Type())
			}
			for v := range t.Results().Variables() {
				reach(v.Type())
			}
		case *types.Map:
			reach(t.Key())
			reach(t.Elem())
		case interface{ Elem() types.Type }:
			reach(t.Elem())
		}
	}
	for _, s := range u.ours {
		for o := range u.used {
			if pathOf(o) == s.ImportPath && o.Exported() && u.outside(s, o) {
				reach(o.Type())
			}
		}
		for _, f := range s.files {
			for _, d := range f.Decls {
				if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.CONST {
					u.group(s, d, needed)
				}
			}
		}
	}
	return needed
}

// group marks the constants of a declaration if another package uses one of them.
func (u *universe) group(s *source, d *ast.GenDecl, needed map[types.Object]bool) {
	var group []types.Object
	for _, spec := range d.Specs {
		for _, name := range spec.(*ast.ValueSpec).Names {
			if o := s.checked.Scope().Lookup(name.Name); o != nil {
				group = append(group, o)
			}
		}
	}
	if slices.ContainsFunc(group, func(o types.Object) bool { return u.outside(s, o) }) {
		for _, o := range group {
			needed[o] = true
		}
	}
}

func pathOf(o types.Object) string {
	if o.Pkg() == nil {
		return ""
	}
	return o.Pkg().Path()
}

// interfaces are all that the module's packages, and those that they import, declare.
func (u *universe) interfaces() []*types.Interface {
	all := slices.Clone(u.literal)
	seen := make(map[*types.Package]bool)
	var visit func(p *types.Package)
	visit = func(p *types.Package) {
		if p == nil || seen[p] {
			return
		}
		seen[p] = true
		for _, name := range p.Scope().Names() {
			if tn, ok := p.Scope().Lookup(name).(*types.TypeName); ok {
				if i, ok := tn.Type().Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
					all = append(all, i)
				}
			}
		}
		for _, i := range p.Imports() {
			visit(i)
		}
	}
	for _, s := range u.ours {
		visit(s.checked)
	}
	return append(all, types.Universe.Lookup("error").Type().Underlying().(*types.Interface))
}

// satisfies reports whether a method is one of an interface that its type implements,
// or that a package looks for by its name (errors.Is, fmt, encoding/json).
func satisfies(named *types.Named, m *types.Func, interfaces []*types.Interface) bool {
	if slices.Contains([]string{"Is", "As", "Unwrap", "Format", "GoString", "LogValue"}, m.Name()) {
		return true
	}
	for _, i := range interfaces {
		for im := range i.Methods() {
			if im.Name() == m.Name() && (types.Implements(named, i) || types.Implements(types.NewPointer(named), i)) {
				return true
			}
		}
	}
	return false
}

// namesElsewhere are the names that files use that this machine doesn't build, and the
// modules of the bench and of SPIRE's plug-ins, which are not type-checked: path.Name of a package's own names,
// and path.*.Name of members, whatever their type.
func (u *universe) namesElsewhere() map[string]bool {
	names := make(map[string]bool)
	var paths []string
	for _, pattern := range []string{"packaging/test/bench/*.go", "packaging/spire/*/*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			u.t.Fatalf("%s has no files: %v", pattern, err)
		}
		paths = append(paths, found...)
	}
	for _, s := range u.ours {
		for _, f := range s.IgnoredGoFiles {
			paths = append(paths, filepath.Join(s.Dir, f))
		}
	}
	for _, path := range paths {
		f, err := parser.ParseFile(u.files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			u.t.Fatal(err)
		}
		var imported []string
		for _, i := range f.Imports {
			if s := u.byPath[strings.Trim(i.Path.Value, `"`)]; s != nil {
				imported = append(imported, s.ImportPath)
			}
		}
		member := func(name string) {
			for _, p := range imported {
				names[p+".*."+name] = true
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				i := slices.IndexFunc(imported, func(p string) bool { return ok && u.byPath[p].Name == x.Name })
				if i >= 0 {
					names[imported[i]+"."+n.Sel.Name] = true
				} else {
					member(n.Sel.Name)
				}
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok {
					member(k.Name)
				}
			}
			return true
		})
	}
	return names
}
