package config

import "time"

// Modes of the IMA log's anchor.
const (
	imaAnchor = "anchor"
	IMAOff    = "off"
)

// IMA says whether the kernel's IMA log is anchored.
type IMA struct {
	Mode     string   `toml:"mode"`     // "anchor", "off"
	Interval Duration `toml:"interval"` // at most one event in this time
}

func defaultIMA() IMA { return IMA{Mode: imaAnchor, Interval: Duration(time.Minute)} }

func (c IMA) check(say sayer) {
	oneOf(say, c.Mode, []string{imaAnchor, IMAOff}, "ima", "mode")
	idle(say, c.Mode == IMAOff && c.Interval != defaultIMA().Interval, "with ima.mode = \"off\"", "ima", "interval")
}
