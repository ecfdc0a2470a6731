package verify

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw/verify/wanted"
)

// findings collects what a policy says of several values.
type findings struct {
	compared []Comparison
	wrong    []string
}

// want notes one value, and whether it is as wanted.
func (f *findings) want(ok bool, what, want, got string) {
	f.compared = append(f.compared, Comparison{what, want, got})
	if !ok {
		f.wrong = append(f.wrong, fmt.Sprintf("%s is %s", what, cmp.Or(got, "none")))
	}
}

func (f *findings) tell(facts wanted.Findings, wrong string) {
	f.add(facts)
	f.wrong = append(f.wrong, wrong)
}

// show adds facts of which something else says what is wrong.
func (f *findings) show(found wanted.Findings) {
	for _, one := range found {
		f.compared = append(f.compared, Comparison{one.What, one.Want, one.Got})
	}
}

func (f *findings) add(found wanted.Findings) {
	for _, one := range found {
		f.want(one.OK, one.What, one.Want, one.Got)
	}
}

func (f *findings) step(fine string) Step {
	if len(f.wrong) > 0 {
		return fail("the policy does not allow it: "+strings.Join(f.wrong, "; "), f.compared...)
	}
	return pass(fine, f.compared...)
}
