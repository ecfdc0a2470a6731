package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// classes are the classes of power (cima-evidence(7), Classes of power). Of those that end
// in ":" each has something behind it.
var classes = []string{
	"privileged", "unconfined:", "confined:", "capability:", "device:", "namespace:", "joined:", "cgroup-parent", "no-cgroup", "replaceable-bundle", "runtime-option",
	"annotation:", "hook:", "sysctl:", "setting:", "unknown:", "mount-option", "propagation", "mount:", "host-read:", "host-write:",
	"special-file:", "covered:", "data-with-sockets", "data-unseen", "descriptor", "working-directory",
	"unseen-start", "no-metadata",
}

// starred are the classes that have a * of their own: any device, all annotations of a
// prefix. It stands for itself.
var starred = regexp.MustCompile(`^(device:(\*|[a-z]+:(\*|[0-9]+):(\*|[0-9]+))|annotation:[a-z0-9.]+\.\*)$`)

// isClass wants a class of the vocabulary. One that this version doesn't know may mean
// anything, so nothing allows it. There are no patterns: a class that looks like one would
// never be met.
func isClass(class string) string {
	word, of, divided := strings.Cut(class, ":")
	if divided {
		word += ":"
	}
	switch {
	case !slices.Contains(classes, word) || divided != (of != ""):
		return "one of cima-evidence(7), Classes of power"
	case strings.ContainsAny(class, "*?") && !starred.MatchString(class):
		return fmt.Sprintf("one class, not a pattern: name each class of %q that may be", strings.TrimSuffix(word, ":"))
	case several(class):
		return `one class; several are a list: ["a", "b"]`
	}
	return ""
}

// several reports whether classes follow each other in one text, as people write them.
func several(class string) bool {
	_, rest, more := strings.Cut(class, ",")
	rest = strings.TrimSpace(rest)
	return more && (slices.ContainsFunc(classes, func(c string) bool { return strings.HasPrefix(rest, c) }) || several(rest))
}

// JudgePower says which classes of power the policy does not allow, each once.
func (p *Policy) JudgePower(classes []string) (refused []string) {
	for _, c := range unique(classes) {
		if isClass(c) != "" || !slices.Contains(p.power, c) && !slices.ContainsFunc(p.powerKinds, func(kind string) bool { return strings.HasPrefix(c, kind+":") }) {
			refused = append(refused, c)
		}
	}
	return refused
}
