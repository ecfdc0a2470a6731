package config

import (
	"time"

	"github.com/cima-project/cima/hw/verify/tables"
)

// Modes of measuring executions.
const (
	ExecOff     = "off"
	ExecMeasure = "measure"
	ExecEnforce = "enforce"
)

// Sources of exec events.
const (
	execByGate = "gate" // fanotify, on the root file systems
	ExecByIMA  = "ima"  // the kernel's IMA log
)

// Exec says whether what containers execute is measured.
type Exec struct {
	Mode     string   `toml:"mode"`     // "off", "measure", "enforce"
	Source   string   `toml:"source"`   // "gate", "ima"
	Deadline Duration `toml:"deadline"` // for which an exec is held at most
	MaxSize  int64    `toml:"max_size"` // bytes of a file; larger ones are missed
}

func defaultExec() Exec {
	return Exec{Mode: ExecOff, Source: execByGate, Deadline: Duration(5 * time.Second), MaxSize: 256 << 20}
}

func (c Exec) check(say sayer, gate Gate) {
	oneOf(say, c.Mode, []string{ExecOff, ExecMeasure, ExecEnforce}, "exec", "mode")
	oneOf(say, c.Source, []string{execByGate, ExecByIMA}, "exec", "source")
	at := tables.Path("exec", "mode")
	switch {
	case c.Source == ExecByIMA && c.Mode == ExecEnforce:
		say(at, "exec.mode = %q with exec.source = %q: mode must be \"measure\": the kernel reports executions after they began", ExecEnforce, ExecByIMA)
	case c.Mode != ExecOff && c.Source == execByGate && gate.Mode == GateOff:
		say(at, "exec.mode = %q does nothing with gate.mode = %q: gate.mode must be %q or %q, or exec.source %q", c.Mode, GateOff, GateOn, GateEnforce, ExecByIMA)
	}
	if c.MaxSize < 1<<20 || c.MaxSize > 1<<34 {
		say(tables.Path("exec", "max_size"), "exec.max_size = %d: must be %d to %d", c.MaxSize, 1<<20, int64(1)<<34)
	}
	because := "with exec.mode = \"off\""
	idle(say, c.Mode == ExecOff && c.Source != execByGate, because, "exec", "source")
	if c.Mode != ExecOff && c.Source == ExecByIMA {
		because = "with exec.source = \"ima\""
	} else if c.Mode != ExecOff {
		return
	}
	idle(say, c.Deadline != defaultExec().Deadline, because, "exec", "deadline")
	idle(say, c.MaxSize != defaultExec().MaxSize, because, "exec", "max_size")
}
