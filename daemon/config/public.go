package config

import (
	"strings"

	"github.com/cima-project/cima/hw/verify/tables"
)

// Bounds of the list of public variables.
const (
	maxPublic     = 256
	maxPublicName = 256 // bytes
)

// checkPublic checks the names of variables whose values are measured in clear.
func (l Launch) checkPublic(say sayer) {
	if len(l.Public) > maxPublic {
		say(tables.Path("launch", "public"), "launch.public has %d names: it must have at most %d", len(l.Public), maxPublic)
		return
	}
	for i, name := range l.Public {
		if name == "" || len(name) > maxPublicName || strings.ContainsAny(name, "=\x00") {
			say(tables.Path("launch", "public", i), "launch.public: %q must be the name of a variable, of at most %d bytes and without =", tables.Clip(name), maxPublicName)
		}
	}
}
