package verify

import (
	"encoding/hex"
	"fmt"
)

// shared: where the quote is one for many, the claims are a leaf of the tree
// whose root it was made for. Whoever else is in it stays unknown.
func (a *appraisal) shared() Step {
	s := a.evidence.Shared
	if s == nil {
		return skip("the quote is over these claims alone")
	}
	want, err := s.ReportData(a.reportData)
	if err != nil {
		return fail(err.Error())
	}
	c := Comparison{"REPORTDATA", hex.EncodeToString(want[:]), hex.EncodeToString(a.quote.ReportData[:])}
	if want != a.quote.ReportData {
		return fail(fmt.Sprintf("the quote was made for no tree of %d in which these claims are leaf %d", s.Size, s.Index), c)
	}
	a.inTree = true
	return pass(fmt.Sprintf("the claims are leaf %d of the %d that share the quote", s.Index, s.Size), c)
}

// boundInTree is the step report-data where the quote is shared.
func (a *appraisal) boundInTree() Step {
	if !a.inTree {
		return skip("the step " + StepShared + " doesn't lead from these claims to the quote")
	}
	return pass("the quote holds the root of the tree that the claims are in")
}

// boundWords says what binds the claims.
func (a *appraisal) boundWords() string {
	if a.evidence.Shared == nil {
		return "the quote holds their hash"
	}
	return "the quote, which others share, holds the root of a tree with their hash"
}
