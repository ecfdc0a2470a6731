package config

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
