// Package card answers: what does a result say at a glance?
//
// A card has the verdict with its root, what is wrong and what would satisfy it, what
// was judged, where it runs, by which policy, and what is not proved. It says nothing
// that the result does not, and each fact once. People read it as text (Write) and on a
// page (hw/verify/page).
package card

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc"
)

// Card is a result at a glance. Its texts are of one line, printable and bounded: no
// text from evidence can look like another line or a command to a terminal.
type Card struct {
	Verdict verify.Verdict
	Under   string      // "under …": the root of trust; "" where no root vouches
	Wrong   []string    // what is wrong, the verdict's reason first: "STEP: …"
	Hint    string      // what to do about it
	Facts   []Fact      // what, launch, where, policy
	Open    []Statement // what is not proved: what stands in the way of trust first, what is waived last
}

// Fact is a label and its text.
type Fact struct{ Label, Text string }

// Statement is one thing that is not proved.
type Statement struct {
	text  string // the shortest that says it
	Whole string // all that the result says
	Code  string
	Mark  string // "in the way", "waived", or "" where trust doesn't depend on it
}

// Of makes the card of a result.
func Of(r *verify.Result) Card {
	c := Card{Verdict: r.Verdict, Under: under(r), Wrong: wrong(r), Hint: replay.Printable(r.Hint), Open: open(r)}
	if r.Verdict != verify.Malformed {
		c.Facts = facts(r)
	}
	return c
}

// under names the root of trust, if one vouches for the quote.
func under(r *verify.Result) string {
	if r.Root == nil || r.Verdict == verify.NotAuthentic || r.Verdict == verify.Malformed {
		return ""
	}
	if r.Root.Kind == "built-in" {
		return "under the built-in root: " + replay.Printable(r.Root.Name)
	}
	return fmt.Sprintf("under a root that is %s: %s", replay.Printable(r.Root.Kind), replay.Printable(r.Root.Name))
}

// facts say what was judged. Until it is known who wrote the agent, they are no more than
// what the evidence says of itself.
func facts(r *verify.Result) []Fact {
	says := "it says: "
	if has(r.Proved, "boot") && has(r.Proved, "launch") {
		says = ""
	}
	var list []Fact
	add := func(label, format string, args ...any) {
		list = append(list, Fact{label, replay.Printable(fmt.Sprintf(format, args...))})
	}
	switch c := r.Claims; {
	case c == nil:
		add("what", "a quote without claims: nothing says who asked for it")
	case c.Container != nil:
		add("what", "%s", says+what(r, c.Container))
		add("launch", "%s", says+launch(c.Container))
	case c.Host != nil:
		add("what", "it says: a process of the host, %s, uid %d", unit(c.Host), c.Host.UID)
	}
	add("where", "%s", where(r))
	add("policy", "%s", policyWords(r))
	return list
}

func what(r *verify.Result, c *rpc.ContainerClaims) string {
	text := cmp.Or(c.Image, "an image that is not known")
	if none := (rpc.PodClaims{}); c.Pod != none {
		text += fmt.Sprintf(", pod %s/%s", cmp.Or(c.Pod.Namespace, "?"), cmp.Or(c.Pod.Name, "?"))
	}
	if r.Container != nil {
		text += fmt.Sprintf(", the policy's %q", r.Container.Name)
	}
	return text
}

func launch(c *rpc.ContainerClaims) string {
	text := "no digest"
	if c.LaunchDigest != (rpc.Digest{}) {
		text = short(c.LaunchDigest.String())
	}
	how := "measured before its first instruction (gated)"
	if c.Assurance.Start != "gated" {
		how = "measured after its start (" + cmp.Or(c.Assurance.Start, "not known") + ")"
	}
	return fmt.Sprintf("%s, %s, by %s", text, how, cmp.Or(c.Runtime, "an engine that is not known"))
}

func unit(h *rpc.HostClaims) string {
	if h.Unit == "" {
		return "in no unit"
	}
	return "unit " + h.Unit
}

func where(r *verify.Result) string {
	text := guest(r) + " whose boot is not known"
	if r.Boot != nil {
		text = fmt.Sprintf("%s, booted as %q", guest(r), r.Boot.Name)
	}
	if r.TCB == nil {
		return text + "; patch level not checked"
	}
	date, _, _ := strings.Cut(r.TCB.Date, "T")
	return fmt.Sprintf("%s; patch level %s of %s", text, r.TCB.Status, date)
}

func guest(r *verify.Result) string {
	text := "a TD"
	if r.Guest != nil {
		text = "an SNP guest"
	}
	if r.Claims != nil && r.Claims.Log.Anchor == "pcr" {
		text += " behind a paravisor"
	}
	return text
}

// policyWords name the policy's files.
func policyWords(r *verify.Result) string {
	var files []string
	for _, s := range r.Policy {
		text := s.File
		if s.Name != "" {
			text = fmt.Sprintf("%q, %s", s.Name, s.File)
		}
		text += ", SHA-384 " + short(s.SHA384.String())
		if s.SignedBy != "" {
			text += ", signed by " + s.SignedBy
		}
		files = append(files, text)
	}
	if files == nil {
		return "none was given"
	}
	return strings.Join(files, "; ")
}

func has(list []verify.Statement, code string) bool {
	return slices.ContainsFunc(list, func(s verify.Statement) bool { return s.Code == code })
}

const allThatRests = "all that rests on what is wrong"

// open are the statements of what is not proved, without those of failed steps, which
// Wrong has.
func open(r *verify.Result) []Statement {
	var list []Statement
	for _, s := range r.NotProved {
		if step := r.Step(s.Code); step != nil && step.Outcome == verify.Fail && s.Stands && strings.HasPrefix(s.Text, s.Code+": ") {
			continue
		}
		text, _, _ := strings.Cut(s.Text, ": ")
		switch s.Code {
		case verify.StepFormat:
			text = s.Text
		case "rest":
			text, s.Text = allThatRests, allThatRests
		}
		one := Statement{text: replay.Printable(text), Whole: replay.Printable(s.Text), Code: replay.Printable(s.Code)}
		switch {
		case s.Stands:
			one.Mark = "in the way"
		case s.Waived:
			one.Mark = "waived"
		}
		list = append(list, one)
	}
	rank := map[string]int{"in the way": 0, "": 1, "waived": 2}
	slices.SortStableFunc(list, func(a, b Statement) int { return cmp.Compare(rank[a.Mark], rank[b.Mark]) })
	return list
}
