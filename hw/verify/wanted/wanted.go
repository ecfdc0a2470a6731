// Package wanted answers: how do values differ from what was wanted?
package wanted

// Finding is one value of the evidence, held against what a policy says.
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
