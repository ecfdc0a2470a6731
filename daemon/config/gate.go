package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Modes of the gate.
const (
	GateOn      = "on"
	GateEnforce = "enforce"
	GateOff     = "off"
)

// Gate says whether containers are measured before their first
// instruction.
type Gate struct {
	Mode     string   `toml:"mode"`     // "on", "enforce", "off"
	Runtimes []string `toml:"runtimes"` // files of OCI runtimes, besides the usual ones
	Deadline Duration `toml:"deadline"` // for which a runtime is held at most
}

func defaultGate() Gate {
	return Gate{Mode: GateOn, Runtimes: []string{}, Deadline: Duration(2 * time.Second)}
}

func (c Gate) check() error {
	if !slices.Contains([]string{GateOn, GateEnforce, GateOff}, c.Mode) {
		return fmt.Errorf("gate.mode = %q: must be %q, %q or %q", c.Mode, GateOn, GateEnforce, GateOff)
	}
	for _, p := range c.Runtimes {
		if !strings.HasPrefix(p, "/") {
			return fmt.Errorf("gate.runtimes: %q must be an absolute path", p)
		}
	}
	return nil
}
