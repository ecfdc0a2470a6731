package config

import (
	"fmt"
	"strings"
)

// Bounds of the list of public variables.
const (
	maxPublic     = 256
	maxPublicName = 256 // bytes
)

// checkPublic checks the names of variables whose values are measured in clear.
func (l Launch) checkPublic() error {
	if len(l.Public) > maxPublic {
		return fmt.Errorf("launch.public has %d names: at most %d are allowed", len(l.Public), maxPublic)
	}
	for _, name := range l.Public {
		if name == "" || len(name) > maxPublicName || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("launch.public: %.300q must be the name of a variable, of at most %d bytes and without =", name, maxPublicName)
		}
	}
	return nil
}
