// Package compose answers: what would the services of this file ask for?
//
// It reads a compose file (the Compose Specification, at the state of June 2026) and
// makes a predict.Container of each service, as docker compose asks docker for it. Each
// key of a service has a fate; a key without one is an error. What compose takes from
// elsewhere (variables of a shell, other files) is an error, too: `docker compose
// config` prints a file that has it all.
package compose

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
)

// File is a compose file.
type File struct {
	project                   string
	services                  map[string]*strictyaml.Value
	volumes, secrets, configs map[string]named
	files                     predict.Files
}

// named is a volume, a secret or a config of the file.
type named struct {
	name     string // as docker has it; empty: made of the project's and the key
	external bool
	driver   string
	file     string // of a secret or config
	inline   bool   // its content is in the file or a variable
}

const configHint = "`docker compose config` prints a file that has it in it"

// hinted is an error with a word on what to do.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
func (h *hinted) Hint() string  { return h.hint }

// Read reads a compose file. project is the project's name where the file has none;
// files reads what services name, relative to where the file lies.
func Read(text []byte, project string, files predict.Files) (*File, error) {
	v, err := strictyaml.Read(text)
	if err != nil {
		return nil, err
	}
	top, err := v.Object()
	if err != nil {
		return nil, err
	}
	f := &File{project: project, services: make(map[string]*strictyaml.Value), files: files}
	if include := top.Take("include"); include != nil {
		return nil, &hinted{include.Errorf("include: other files are not read here"), configHint}
	}
	if name := top.Take("name"); name != nil && project == "" {
		if f.project, err = text0(name); err != nil {
			return nil, err
		}
	}
	for _, ignored := range []string{"version", "networks", "models"} {
		top.Take(ignored)
	}
	for key, into := range map[string]*map[string]named{"volumes": &f.volumes, "secrets": &f.secrets, "configs": &f.configs} {
		if *into, err = readNamed(top.Take(key)); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	services, err := top.Take("services").Object()
	if err != nil {
		return nil, err
	}
	for _, name := range services.Names() {
		f.services[name] = services.Take(name)
	}
	if len(f.services) == 0 {
		return nil, errors.New("the file has no services")
	}
	dropExtensions(top)
	return f, top.End()
}

// dropExtensions leaves out keys that begin with "x-", which compose ignores.
func dropExtensions(o *strictyaml.Object) {
	for _, name := range o.Names() {
		if strings.HasPrefix(name, "x-") {
			o.Take(name)
		}
	}
}

func readNamed(v *strictyaml.Value) (map[string]named, error) {
	all, err := v.Object()
	if err != nil {
		return nil, err
	}
	out := make(map[string]named)
	for _, key := range all.Names() {
		o, err := all.Take(key).Object()
		if err != nil {
			return nil, err
		}
		n := named{}
		for member, into := range map[string]*string{"name": &n.name, "driver": &n.driver, "file": &n.file} {
			if m := o.Take(member); m != nil {
				if *into, err = text0(m); err != nil {
					return nil, err
				}
			}
		}
		if e := o.Take("external"); e != nil {
			if n.external, err = e.Bool(); err != nil {
				return nil, err
			}
		}
		n.inline = o.Take("environment") != nil || o.Take("content") != nil
		for _, ignored := range []string{"labels", "driver_opts", "template_driver"} {
			o.Take(ignored)
		}
		dropExtensions(o)
		if err := o.End(); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if n.external && n.name == "" {
			n.name = key
		}
		out[key] = n
	}
	return out, nil
}

// Services are the names of the services, sorted.
func (f *File) Services() []string { return slices.Sorted(maps.Keys(f.services)) }

// text0 is a scalar, in which "$$" is "$" and a variable is an error.
func text0(v *strictyaml.Value) (string, error) {
	s, err := v.Text()
	if err != nil {
		return "", err
	}
	return literal(v, s)
}

func literal(v *strictyaml.Value, s string) (string, error) {
	parts := strings.Split(s, "$$")
	for _, p := range parts {
		if i := strings.IndexByte(p, '$'); i >= 0 {
			return "", &hinted{v.Errorf("%.40q: only the shell that runs compose knows the variable", p[i:]), configHint + "; a $ that is meant as such is written $$"}
		}
	}
	return strings.Join(parts, "$"), nil
}

// texts are the scalars of a list, or one scalar.
func texts(v *strictyaml.Value) ([]string, error) {
	if v.IsNull() {
		return nil, nil
	}
	if !v.IsList() {
		s, err := text0(v)
		return []string{s}, err
	}
	items, err := v.List()
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, i := range items {
		s, err := text0(i)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// pair is NAME=VALUE; given says whether there is a value.
type pair struct {
	name, value string
	given       bool
}

// pairs reads a mapping, or a list of NAME=VALUE.
func pairs(v *strictyaml.Value) (out []pair, err error) {
	if !v.IsObject() {
		list, err := texts(v)
		for _, s := range list {
			name, value, ok := strings.Cut(s, "=")
			out = append(out, pair{name, value, ok})
		}
		return out, err
	}
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	for _, name := range o.Names() {
		p := pair{name: name}
		if of := o.Take(name); !of.IsNull() {
			p.given = true
			if p.value, err = text0(of); err != nil {
				return nil, err
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// Container is what a service asks for.
func (f *File) Container(name string) (*predict.Container, error) {
	v, ok := f.services[name]
	if !ok {
		return nil, fmt.Errorf("there is no service %q: there are %q", name, f.Services())
	}
	o, err := v.Object()
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	s := &service{File: f, name: name, c: &predict.Container{Engine: predict.Docker}}
	table := keys()
	dropExtensions(o)
	for _, key := range order(o.Names()) {
		take, known := table[key]
		value := o.Take(key)
		switch {
		case !known:
			err = value.Errorf("the key is not known")
		case take != nil && !value.IsNull():
			err = take(s, value)
		}
		if err != nil {
			return nil, fmt.Errorf("service %s: %s: %w", name, key, err)
		}
	}
	if s.c.Image == "" {
		s.c.Image = f.project + "-" + name // that compose builds
	}
	s.c.Environment = slices.Concat(s.fromFiles, s.given)
	s.c.Labels = s.labels()
	return s.c, nil
}

// order puts files before what is given in the file itself.
func order(names []string) []string {
	slices.SortStableFunc(names, func(a, b string) int {
		first := func(s string) int {
			if strings.HasSuffix(s, "_file") {
				return 0
			}
			return 1
		}
		return first(a) - first(b)
	})
	return names
}

// service is one that is read.
type service struct {
	*File
	name             string
	c                *predict.Container
	fromFiles, given []predict.Variable
	label            map[string]string
}

// labels are the service's, and two of those that compose gives by itself. The others
// say how compose was run.
func (s *service) labels() map[string]string {
	out := map[string]string{"com.docker.compose.service": s.name}
	if s.project != "" {
		out["com.docker.compose.project"] = s.project
	}
	maps.Copy(out, s.label)
	return out
}

// absolute reports whether a path is one of the host's that needs no directory.
func absolute(p string) bool { return path.IsAbs(p) }
