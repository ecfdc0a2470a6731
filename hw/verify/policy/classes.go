package policy

import (
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

// isClass wants a class of the vocabulary. One that this version doesn't know may mean
// anything, so nothing allows it.
func isClass(class string) string {
	word, of, divided := strings.Cut(class, ":")
	if divided {
		word += ":"
	}
	if slices.Contains(classes, word) && divided == (of != "") {
		return ""
	}
	return "one of cima-evidence(7), Classes of power"
}

// JudgePower says which classes of power the policy does not allow, each once.
func (p *Policy) JudgePower(classes []string) (refused []string) {
	for _, c := range unique(classes) {
		if isClass(c) != "" || !slices.Contains(p.power, c) {
			refused = append(refused, c)
		}
	}
	return refused
}
