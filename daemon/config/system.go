package config

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
)

// SystemRule names host services to measure: all see them in the log.
type SystemRule struct {
	Unit      string `toml:"unit"`      // systemd unit, with * and ?
	Path      string `toml:"path"`      // of the executable
	Arguments bool   `toml:"arguments"` // measure these too
}

func (r SystemRule) check() error {
	if (r.Unit == "") == (r.Path == "") {
		return errors.New("a [[system]] rule must name either a unit or a path")
	}
	if r.Path != "" && (!filepath.IsAbs(r.Path) || filepath.Clean(r.Path) != r.Path) {
		return fmt.Errorf("system: path = %q: must be absolute and clean", r.Path)
	}
	_, err := path.Match(r.Unit, "")
	return err
}
