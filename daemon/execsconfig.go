package daemon

import (
	"fmt"
	"time"
)

// Modes of measuring executions.
const (
	execOff     = "off"
	execMeasure = "measure"
	execEnforce = "enforce"
)

// Sources of exec events.
const (
	execByGate = "gate" // fanotify, on the root file systems
	execByIMA  = "ima"  // the kernel's IMA log
)

// ExecConfig says whether what containers execute is measured.
type ExecConfig struct {
	Mode     string   `toml:"mode"`     // "off", "measure", "enforce"
	Source   string   `toml:"source"`   // "gate", "ima"
	Deadline Duration `toml:"deadline"` // for which an exec is held at most
	MaxSize  int64    `toml:"max_size"` // bytes of a file; larger ones are missed
}

func defaultExec() ExecConfig {
	return ExecConfig{Mode: execOff, Source: execByGate, Deadline: Duration(5 * time.Second), MaxSize: 256 << 20}
}

func (c ExecConfig) check() error {
	switch {
	case c.Mode != execOff && c.Mode != execMeasure && c.Mode != execEnforce:
		return fmt.Errorf("exec.mode = %q: it is %q, %q or %q", c.Mode, execOff, execMeasure, execEnforce)
	case c.Source != execByGate && c.Source != execByIMA:
		return fmt.Errorf("exec.source = %q: it is %q or %q", c.Source, execByGate, execByIMA)
	case c.Source == execByIMA && c.Mode == execEnforce:
		return fmt.Errorf("exec.mode = %q with exec.source = %q: what the kernel tells of afterwards can't be refused", execEnforce, execByIMA)
	case c.MaxSize < 1<<20 || c.MaxSize > 1<<34:
		return fmt.Errorf("exec.max_size = %d: it is from %d to %d", c.MaxSize, 1<<20, 1<<34)
	}
	return nil
}
