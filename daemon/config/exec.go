package config

import (
	"fmt"
	"time"
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

func (c Exec) check() error {
	switch {
	case c.Mode != ExecOff && c.Mode != ExecMeasure && c.Mode != ExecEnforce:
		return fmt.Errorf("exec.mode = %q: must be %q, %q or %q", c.Mode, ExecOff, ExecMeasure, ExecEnforce)
	case c.Source != execByGate && c.Source != ExecByIMA:
		return fmt.Errorf("exec.source = %q: must be %q or %q", c.Source, execByGate, ExecByIMA)
	case c.Source == ExecByIMA && c.Mode == ExecEnforce:
		return fmt.Errorf("exec.mode = %q with exec.source = %q: mode must be \"measure\": the kernel reports executions after they began", ExecEnforce, ExecByIMA)
	case c.MaxSize < 1<<20 || c.MaxSize > 1<<34:
		return fmt.Errorf("exec.max_size = %d: must be %d to %d", c.MaxSize, 1<<20, 1<<34)
	}
	return nil
}
