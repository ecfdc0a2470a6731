package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// AccessRule grants or denies methods to those it matches. All matchers that
// are given must match; a denial in any rule that matches wins.
type AccessRule struct {
	Image string   `toml:"image"` // reference, with * and ? as in glob(7)
	Label string   `toml:"label"` // "name=value"; the key launch.labels must list the name
	Unit  string   `toml:"unit"`  // systemd unit of a host process, with * and ?
	Allow []string `toml:"allow"` // methods
	Deny  []string `toml:"deny"`  // methods
}

func (r AccessRule) check(known []string, labels []string) error {
	if len(r.Allow)+len(r.Deny) == 0 {
		return fmt.Errorf("an [[access]] rule must have allow or deny")
	}
	for _, name := range slices.Concat(r.Allow, r.Deny) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("access: %q must be a method of cima-api(7)", name)
		}
	}
	for _, pattern := range []string{r.Image, r.Unit} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("access: %q: %w", pattern, err)
		}
	}
	name, _, ok := strings.Cut(r.Label, "=")
	if r.Label != "" && (!ok || !slices.Contains(labels, name)) {
		return fmt.Errorf(`access: label = %q: must be "name=value" with a name from launch.labels`, r.Label)
	}
	return nil
}
