// Package strictyaml answers: which YAML has one meaning?
//
// It reads one document of YAML 1.2 as go.yaml.in/yaml/v3 does, and refuses what
// programs read differently: a key twice, numbers and times in odd spellings, tags,
// and aliases that grow beyond a bound. Whoever reads a mapping takes its keys one by
// one; what nobody took is an error.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a document.
const (
	MaxBytes = 4 << 20
	maxNodes = 1 << 17 // with what aliases stand for
	maxDepth = 64
)

type kind int

const (
	null kind = iota
	scalar
	list
	object
)

// Value is a part of a document.
type Value struct {
	kind    kind
	text    string // of a scalar
	isText  bool   // a scalar is a string, and no number or boolean
	items   []*Value
	members map[string]*Value
	line    int
}

// Read reads one document.
func Read(text []byte) (*Value, error) {
	documents, err := ReadAll(text)
	if err == nil && len(documents) != 1 {
		err = fmt.Errorf("there are %d documents: there must be one", len(documents))
	}
	if err != nil {
		return nil, err
	}
	return documents[0], nil
}

// ReadAll reads all documents, without those that are empty.
func ReadAll(text []byte) ([]*Value, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("YAML of %d bytes: it must have at most %d", len(text), MaxBytes)
	}
	c := &converter{}
	var out []*Value
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(n.Content) == 0 {
			continue
		}
		v, err := c.value(n.Content[0], 0)
		if err != nil {
			return nil, err
		}
		if v.kind != null {
			out = append(out, v)
		}
	}
}

// converter counts what it makes, so that aliases can't grow without bound.
type converter struct{ nodes int }

func (c *converter) value(n *yaml.Node, depth int) (*Value, error) {
	if c.nodes++; c.nodes > maxNodes || depth > maxDepth {
		return nil, fmt.Errorf("line %d: YAML must have at most %d values, %d within each other; aliases count as what they stand for", n.Line, maxNodes, maxDepth)
	}
	v := &Value{line: n.Line}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1)
	case yaml.ScalarNode:
		return v, v.scalar(n)
	case yaml.SequenceNode:
		v.kind = list
		for _, item := range n.Content {
			i, err := c.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, i)
		}
		return v, nil
	case yaml.MappingNode:
		v.kind = object
		v.members = make(map[string]*Value)
		return v, c.mapping(v, n, depth)
	}
	return nil, fmt.Errorf("line %d: neither a scalar, a list nor a mapping", n.Line)
}

// mapping reads keys and values. "<<" merges other mappings, whose keys count where the
// mapping has none of the name.
func (c *converter) mapping(v *Value, n *yaml.Node, depth int) error {
	var merged []*Value
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, of := n.Content[i], n.Content[i+1]
		value, err := c.value(of, depth+1)
		switch {
		case err != nil:
			return err
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str" && key.Tag != "!!merge" && key.Tag != "!!int":
			return fmt.Errorf("line %d: a key must be a string", key.Line)
		case key.Tag == "!!merge" && value.kind == list:
			merged = append(merged, value.items...)
			continue
		case key.Tag == "!!merge":
			merged = append(merged, value)
			continue
		case v.members[key.Value] != nil:
			return fmt.Errorf("line %d: the key %q is there twice", key.Line, key.Value)
		}
		v.members[key.Value] = value
	}
	for _, m := range merged {
		if m.kind != object {
			return fmt.Errorf("line %d: << must be a mapping, or a list of mappings", m.line)
		}
		for name, value := range m.members {
			if v.members[name] == nil {
				v.members[name] = value
			}
		}
	}
	return nil
}

// plainNumber are the numbers that all read alike.
var plainNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

func (v *Value) scalar(n *yaml.Node) error {
	v.kind, v.text = scalar, n.Value
	switch n.Tag {
	case "!!null":
		v.kind = null
	case "!!str":
		v.isText = true
	case "!!bool":
		v.text = strings.ToLower(v.text)
	case "!!int", "!!float":
		if !plainNumber.MatchString(v.text) {
			return fmt.Errorf("line %d: %q is a number that programs spell differently: write it plainly, or in quotes", n.Line, n.Value)
		}
	default:
		return fmt.Errorf("line %d: %q has the tag %s: write it in quotes", n.Line, n.Value, n.Tag)
	}
	return nil
}

// IsNull reports whether nothing is given.
func (v *Value) IsNull() bool { return v == nil || v.kind == null }

// IsList reports whether v is a list.
func (v *Value) IsList() bool { return v != nil && v.kind == list }

// IsObject reports whether v is a mapping.
func (v *Value) IsObject() bool { return v != nil && v.kind == object }

// Errorf is an error that names the line.
func (v *Value) Errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if v == nil {
		return err
	}
	return fmt.Errorf("line %d: %w", v.line, err)
}

// Text is a scalar's text.
func (v *Value) Text() (string, error) {
	if v == nil || v.kind != scalar {
		return "", v.Errorf("it must be a string")
	}
	return v.text, nil
}

// String is a scalar that is a string in YAML's sense: a number or a boolean must stand
// in quotes.
func (v *Value) StringOnly() (string, error) {
	if v == nil || v.kind != scalar || !v.isText {
		return "", v.Errorf("it must be a string: write it in quotes")
	}
	return v.text, nil
}

// Bool is true or false.
func (v *Value) Bool() (bool, error) {
	if v != nil && v.kind == scalar {
		switch v.text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	return false, v.Errorf("it must be true or false")
}

// List are the items of a list, and none of null.
func (v *Value) List() ([]*Value, error) {
	switch {
	case v.IsNull():
		return nil, nil
	case v.kind != list:
		return nil, v.Errorf("it must be a list")
	}
	return v.items, nil
}

// Texts are the items of a list of scalars.
func (v *Value) Texts() ([]string, error) {
	items, err := v.List()
	out := make([]string, len(items))
	for i := 0; err == nil && i < len(items); i++ {
		out[i], err = items[i].Text()
	}
	return out, err
}

// Object is a mapping whose keys are taken one by one.
type Object struct {
	of   *Value
	left map[string]*Value
}

// Object is v as a mapping; null is an empty one.
func (v *Value) Object() (*Object, error) {
	o := &Object{of: v, left: make(map[string]*Value)}
	switch {
	case v.IsNull():
		return o, nil
	case v.kind != object:
		return nil, v.Errorf("it must be a mapping")
	}
	for name, value := range v.members {
		o.left[name] = value
	}
	return o, nil
}

// Take returns the value of a key, and nil where there is none.
func (o *Object) Take(name string) *Value {
	v := o.left[name]
	delete(o.left, name)
	return v
}

// Names are the keys that nobody took yet, sorted.
func (o *Object) Names() (out []string) {
	for name := range o.left {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// End is an error if there are keys that nobody took.
func (o *Object) End() error {
	for _, name := range o.Names() {
		return o.left[name].Errorf("the key %q is not known", name)
	}
	return nil
}
