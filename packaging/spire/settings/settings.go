// Package settings answers: what did SPIRE's configuration say to a plug-in?
package settings

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/token"
)

// maxText bounds the text of one plug-in's settings, in bytes.
const maxText = 64 << 10

// Read reads plugin_data, in HCL or JSON: each key of into may be there once, with a text that is
// not empty, and nothing else may be there. HCL's own decoder takes the last of two values
// and leaves what it doesn't know.
func Read(text string, into map[string]*string) error {
	if len(text) > maxText {
		return fmt.Errorf("plugin_data has %d bytes and must have at most %d", len(text), maxText)
	}
	file, err := hcl.ParseString(text)
	if err != nil {
		return fmt.Errorf("plugin_data: %w", err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return fmt.Errorf("plugin_data must be keys with values")
	}
	seen := make(map[string]bool)
	for _, item := range list.Items {
		if err := one(item, into, seen); err != nil {
			return fmt.Errorf("plugin_data: %w", err)
		}
	}
	return nil
}

func one(item *ast.ObjectItem, into map[string]*string, seen map[string]bool) error {
	words := make([]string, len(item.Keys))
	for i, key := range item.Keys {
		words[i] = fmt.Sprint(key.Token.Value())
	}
	name := strings.Join(words, " ")
	target := into[name]
	switch {
	case target == nil:
		return fmt.Errorf("there is no key %q: it must be one of %s", name, strings.Join(slices.Sorted(maps.Keys(into)), ", "))
	case seen[name]:
		return fmt.Errorf("%s is there twice and must be there once", name)
	}
	seen[name] = true
	value, ok := item.Val.(*ast.LiteralType)
	if !ok || value.Token.Type != token.STRING {
		return fmt.Errorf("%s must be a text in quotes", name)
	}
	word, ok := value.Token.Value().(string)
	if !ok || word == "" {
		return fmt.Errorf("%s must not be empty: leave it out for its default", name)
	}
	*target = word
	return nil
}
