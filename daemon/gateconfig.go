package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Modes of the gate.
const (
	gateOn      = "on"
	gateEnforce = "enforce"
	gateOff     = "off"
)

// GateConfig says whether containers are measured before their first
// instruction.
type GateConfig struct {
	Mode     string   `toml:"mode"`     // "on", "enforce", "off"
	Runtimes []string `toml:"runtimes"` // files of OCI runtimes, beside the usual ones
	Deadline Duration `toml:"deadline"` // for which a runtime is held at most
}

func defaultGate() GateConfig {
	return GateConfig{Mode: gateOn, Runtimes: []string{}, Deadline: Duration(2 * time.Second)}
}

func (c GateConfig) check() error {
	if !slices.Contains([]string{gateOn, gateEnforce, gateOff}, c.Mode) {
		return fmt.Errorf("gate.mode = %q: it is %q, %q or %q", c.Mode, gateOn, gateEnforce, gateOff)
	}
	for _, p := range c.Runtimes {
		if !strings.HasPrefix(p, "/") {
			return fmt.Errorf("gate.runtimes: %q is no absolute path", p)
		}
	}
	return nil
}
