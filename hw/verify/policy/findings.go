package policy

import (
	"slices"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/tables"
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

// wantDigest adds a digest that must be one of a list, which may have the words "zero"
// and "any".
func (f *Findings) wantDigest(what string, list []string, got hw.Digest) {
	f.Want(slices.Contains(list, anyWord) || slices.Contains(list, ValueWord(got)), what, tables.Or(list), ValueWord(got))
}
