package config

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/tables"
)

// SystemRule names host services to measure: all see them in the log.
type SystemRule struct {
	Unit      string `toml:"unit"`      // systemd unit, with * and ?
	Path      string `toml:"path"`      // of the executable
	Arguments bool   `toml:"arguments"` // measure these too
}

func (r SystemRule) check(say sayer, at string) {
	if (r.Unit == "") == (r.Path == "") {
		say(at, "a [[system]] rule must name either a unit or a path")
	}
	if r.Path != "" && !clean(r.Path) {
		say(tables.Path(at, "path"), "system: path = %q: must be an absolute path without . or ..", tables.Clip(r.Path))
	}
	if must := unitMust(r.Unit); must != "" {
		say(tables.Path(at, "unit"), "system: unit = %q: %s", tables.Clip(r.Unit), must)
	}
}

// unitSuffixes are those of units that have processes (daemon/peer names them so).
var unitSuffixes = []string{".service", ".scope", ".socket", ".mount", ".swap"}

// unitMust says what the pattern of a unit must be, "" if it is: one without a suffix
// would match nothing.
func unitMust(pattern string) string {
	if _, err := path.Match(pattern, ""); err != nil {
		return "must be a pattern with * and ?: its brackets must be closed"
	}
	if pattern == "" || strings.ContainsAny(pattern[len(pattern)-1:], "*?]") {
		return ""
	}
	if !slices.ContainsFunc(unitSuffixes, func(s string) bool { return strings.HasSuffix(pattern, s) }) {
		return fmt.Sprintf("must end in %s: %q", strings.Join(unitSuffixes, ", "), pattern+".service")
	}
	return ""
}
