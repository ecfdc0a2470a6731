package policy

import (
	"slices"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

// wantDigest adds a digest that must be one of a list, which may have the words "zero"
// and "any".
func wantDigest(f *wanted.Findings, what string, list []string, got hw.Digest) {
	f.Want(slices.Contains(list, anyWord) || slices.Contains(list, ValueWord(got)), what, tables.Or(list), ValueWord(got))
}
