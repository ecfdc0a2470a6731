package config

import (
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
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

func (c Gate) check(say sayer) {
	oneOf(say, c.Mode, []string{GateOn, GateEnforce, GateOff}, "gate", "mode")
	for i, p := range c.Runtimes {
		if !clean(p) {
			say(tables.Path("gate", "runtimes", i), "gate.runtimes: %q must be an absolute path without . or ..", tables.Clip(p))
		}
	}
	const off = "with gate.mode = \"off\""
	idle(say, c.Mode == GateOff && len(c.Runtimes) > 0, off, "gate", "runtimes")
	idle(say, c.Mode == GateOff && c.Deadline != defaultGate().Deadline, off, "gate", "deadline")
}
