package launches

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/cima-project/cima/hw/verify/wanted"
	"github.com/cima-project/cima/logs/canonical"
)

// Explanation is why a launch is none of those that a policy knows.
type Explanation struct {
	Known  bool         // the policy says what a launch digest of its own stands for
	Differ []Difference // from the nearest launch known, or from none at all
	More   int          // facts that differ and are not in Differ
}

// maxShown is how many bytes of a fact are shown.
const maxShown = 200

// Tell says in words that a digest is none of a policy's, with the facts behind it. what
// names the digest.
func (e Explanation) Tell(what string, got canonical.Digest) (facts wanted.Findings, words string) {
	facts.Want(true, what, "one of the policy's", got.String())
	var names []string
	for _, d := range e.Differ {
		want := clip(cmp.Or(d.want, "none"))
		if !e.Known {
			want = "not known: the policy has no [[reference]]"
		}
		facts.Want(true, clip(d.fact), want, clip(cmp.Or(d.got, "none")))
		names = append(names, clip(d.fact))
	}
	if e.More > 0 {
		facts.Want(true, "more facts that differ", "0", fmt.Sprint(e.More))
		names = append(names, fmt.Sprintf("%d more", e.More))
	}
	if !e.Known {
		return facts, what + " is none of the policy's, which doesn't say what they stand for; the facts of this launch stand below"
	}
	return facts, fmt.Sprintf("%s is none of the policy's: the nearest launch that it knows differs in %s", what, strings.Join(names, ", "))
}

// clip cuts a fact off behind maxShown bytes, or before the character that stands there.
func clip(s string) string {
	most := maxShown
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
