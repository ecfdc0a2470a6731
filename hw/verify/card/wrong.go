package card

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
)

// Bounds of what a step that failed says.
const (
	maxPairs  = 2   // values that differ, or facts of a launch
	maxValue  = 72  // bytes of one
	maxDetail = 200 // bytes
)

// wrong is what is wrong, the reason of the verdict first. What several steps say of one
// thing is said once.
func wrong(r *verify.Result) (list []string) {
	var said []string
	add := func(s *verify.Step) {
		text := stepWords(s)
		if i := slices.Index(said, text); i >= 0 {
			list[i] = strings.TrimSuffix(list[i], ": "+text) + ", " + s.Name + ": " + text
			return
		}
		said, list = append(said, text), append(list, s.Name+": "+text)
	}
	first, _, _ := strings.Cut(r.Reason, ": ")
	if s := r.Step(first); s != nil {
		add(s)
	}
	for _, s := range r.Failed() {
		if s.Name != first {
			add(&s)
		}
	}
	return list
}

// ofPolicy begins what a policy says of values, which are compared one by one.
const ofPolicy = "the policy does not allow it: "

func stepWords(s *verify.Step) string {
	if s.Name == verify.StepNotProved && s.Outcome == verify.Fail {
		return "the policy doesn't waive what is in the way"
	}
	text, finding := strings.CutPrefix(s.Detail, ofPolicy)
	text = shown(text, maxDetail)
	pairs := strings.Join(differing(s.Compared), "; ")
	switch {
	case s.Outcome != verify.Fail || pairs == "":
		return text
	case finding: // the values say all that the text does
		return pairs
	}
	return text + ": " + pairs
}

// differing are the values that differ, as "WHAT is GOT, must be WANT". A digest of which
// the policy knows the facts is left out where those differ.
func differing(compared []verify.Comparison) (pairs []string) {
	var differ []verify.Comparison
	for _, c := range compared {
		if c.Want != c.Got {
			differ = append(differ, c)
		}
	}
	if len(differ) > 1 && differ[0].Want == oneOfThePolicys {
		differ = differ[1:]
	}
	for i, c := range differ {
		if i == maxPairs {
			return append(pairs, fmt.Sprintf("and %d more", len(differ)-i))
		}
		pairs = append(pairs, fmt.Sprintf("%s is %s, must be %s", shown(c.What, maxValue), shown(c.Got, maxValue), shown(c.Want, maxValue)))
	}
	return pairs
}

const oneOfThePolicys = "one of the policy's"

var digests = regexp.MustCompile(`[0-9a-fA-F]{33,}`)

// short cuts digests off behind 16 digits: who wants them whole takes the steps.
func short(text string) string {
	return digests.ReplaceAllStringFunc(text, func(d string) string { return d[:16] + "…" })
}

func shown(text string, most int) string {
	return replay.Clip(replay.Printable(short(text)), most)
}
