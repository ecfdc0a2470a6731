package verify

import (
	"fmt"

	"github.com/cima-project/cima/hw/verify/evidence"
)

// shared: where the quote is one for many, the claims are a leaf of the tree
// whose root it was made for. The others in the tree stay unknown.
func shared(ev *evidence.Bundle) Step {
	s := ev.Wire.Shared
	if s == nil {
		return skip("the quote is over these claims alone")
	}
	want, err := s.ReportData(ev.ReportData)
	if err != nil {
		return fail(err.Error())
	}
	c := comparedData(ev, want)
	if c.Want != c.Got {
		return fail(fmt.Sprintf("the quote was made for no tree of %d in which these claims are leaf %d", s.Size, s.Index), c)
	}
	return pass(fmt.Sprintf("the claims are leaf %d of the %d that share the quote", s.Index, s.Size), c)
}

// boundInTree is the step report-data where the quote is shared.
func boundInTree(ev *evidence.Bundle) Step {
	if shared(ev).Outcome != Pass {
		return skip("the step " + StepShared + " doesn't lead from these claims to the quote")
	}
	return pass("the quote holds the root of the tree that the claims are in")
}

// boundWords describes what binds the claims.
func boundWords(ev *evidence.Bundle) string {
	if ev.Wire.Shared == nil {
		return "the quote holds their hash"
	}
	return "the quote, which others share, holds the root of a tree with their hash"
}
