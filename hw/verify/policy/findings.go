package policy

import (
	"cmp"
	"fmt"
	"strings"
)

// Finding is one value of the evidence, held against what the policy says.
type Finding struct {
	What string
	Want string
	Got  string
	OK   bool
}

// Findings collects what a policy says of several values.
type Findings []Finding

// Want adds a finding.
func (f *Findings) Want(ok bool, what, want, got string) {
	*f = append(*f, Finding{what, want, got, ok})
}

// OneOf is how a policy's list reads in a finding: "a or b", or "none".
func OneOf[T any](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return cmp.Or(strings.Join(words, " or "), "none")
}
