package verify

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/hw/verify/wanted"
	"github.com/cima-project/cima/rpc"
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

// maxShown is how many bytes of a fact a result shows.
const maxShown = 200

// explain notes a digest of a launch that isn't wanted, with the facts behind it.
func (f *findings) explain(what string, got rpc.Digest, e policy.Explanation) {
	f.compared = append(f.compared, Comparison{what, "one of the policy's", got.String()})
	var facts []string
	for _, d := range e.Differ {
		want := replay.Clip(cmp.Or(d.Want, "none"), maxShown)
		if !e.Known {
			want = "not known: the policy has no [[reference]]"
		}
		f.compared = append(f.compared, Comparison{replay.Clip(d.Fact, maxShown), want, replay.Clip(cmp.Or(d.Got, "none"), maxShown)})
		facts = append(facts, replay.Clip(d.Fact, maxShown))
	}
	if e.More > 0 {
		f.compared = append(f.compared, Comparison{"more facts that differ", "0", fmt.Sprint(e.More)})
		facts = append(facts, fmt.Sprintf("%d more", e.More))
	}
	if !e.Known {
		f.wrong = append(f.wrong, what+" is none of the policy's, which doesn't say what they stand for; the facts of this launch stand below")
		return
	}
	f.wrong = append(f.wrong, fmt.Sprintf("%s is none of the policy's: the nearest launch that it knows differs in %s", what, strings.Join(facts, ", ")))
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
