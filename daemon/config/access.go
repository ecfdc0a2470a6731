package config

import (
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/tables"
)

// AccessRule grants or denies methods to those it matches. All matchers that
// are given must match; a denial in any rule that matches wins.
type AccessRule struct {
	Image     string   `toml:"image"`     // reference, with * and ? as in glob(7)
	Label     string   `toml:"label"`     // "name=value"; the key launch.labels must list the name
	Namespace string   `toml:"namespace"` // of a pod, with * and ?
	Pod       string   `toml:"pod"`       // its name, with * and ?
	Unit      string   `toml:"unit"`      // systemd unit of a host process, with * and ?
	Allow     []string `toml:"allow"`     // methods
	Deny      []string `toml:"deny"`      // methods
}

func (r AccessRule) check(say sayer, at string, known []string, labels []string) {
	if len(r.Allow)+len(r.Deny) == 0 {
		say(at, "an [[access]] rule must have allow or deny")
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"allow", r.Allow}, {"deny", r.Deny}} {
		for i, name := range list.names {
			if !slices.Contains(known, name) {
				say(tables.Path(at, list.key, i), "access: %q must be a method of cima-api(7)%s", tables.Clip(name), tables.Near(name, known))
			}
		}
	}
	for _, m := range []struct{ key, pattern string }{{"image", r.Image}, {"namespace", r.Namespace}, {"pod", r.Pod}} {
		if _, err := path.Match(m.pattern, ""); err != nil {
			say(tables.Path(at, m.key), "access: %s = %q: must be a pattern with * and ?: its brackets must be closed", m.key, tables.Clip(m.pattern))
		}
	}
	if must := unitMust(r.Unit); must != "" {
		say(tables.Path(at, "unit"), "access: unit = %q: %s", tables.Clip(r.Unit), must)
	}
	if r.Unit != "" && r.Image+r.Label+r.Namespace+r.Pod != "" {
		say(at, "an [[access]] rule with a unit and an image, a label or a pod matches nobody: a unit is of the host, and those are of containers")
	}
	name, _, ok := strings.Cut(r.Label, "=")
	if r.Label != "" && (!ok || !slices.Contains(labels, name)) {
		say(tables.Path(at, "label"), "access: label = %q: must be \"name=value\" with a name from launch.labels", tables.Clip(r.Label))
	}
}
