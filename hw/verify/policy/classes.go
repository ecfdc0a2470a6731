package policy

import (
	"fmt"
	"slices"
	"strings"
)

// classes are the classes of power (cima-evidence(7), Classes of power). Of those that end
// in ":" each has something behind it.
var classes = []string{
	"privileged", "unconfined:", "confined:", "capability:", "device:", "namespace:", "joined:", "cgroup-parent", "no-cgroup", "replaceable-bundle",
	"annotation:", "hook:", "sysctl:", "setting:", "unknown:", "mount-option", "propagation", "mount:", "host-read:", "host-write:",
	"special-file:", "covered:", "data-with-sockets", "data-unseen", "descriptor", "working-directory",
	"unseen-start", "no-metadata",
}

// knownClass reports whether a class is of the vocabulary.
func knownClass(class string) bool {
	word, of, divided := strings.Cut(class, ":")
	if divided {
		word += ":"
	}
	return slices.Contains(classes, word) && divided == (of != "")
}

// Allows reports whether some container may have this class of power. A class that this
// version doesn't know may mean anything.
func (p *Power) Allows(class string) bool {
	return knownClass(class) && slices.Contains(p.Allow, class)
}

func (p *Power) check() error {
	for _, class := range p.Allow {
		if !knownClass(class) {
			return fmt.Errorf("power.allow: class %q is unknown: it must be one of cima-evidence(7), Classes of power", class)
		}
	}
	return nil
}
