package verify

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cima-project/cima/hw/verify/replay"
)

// WriteTable writes the result for people: a line for each step, then what was
// proved and what was not, the verdict and the hint.
func (r *Result) WriteTable(w io.Writer) error {
	var b strings.Builder
	width := 0
	for _, s := range r.Steps {
		width = max(width, len(s.Name))
	}
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", s.Outcome, width, s.Name, replay.Printable(s.Detail))
		if s.Outcome == Fail {
			writeCompared(&b, width, s.Compared)
		}
	}
	section(&b, "proved", r.Proved)
	section(&b, "not proved", r.NotProved)
	fmt.Fprintf(&b, "\n%s", r.Verdict)
	if r.Root != nil && r.Root.Kind != "built-in" && (r.Verdict == Trusted || r.Verdict == Authentic || r.Verdict == NotTrusted) {
		fmt.Fprintf(&b, ", under a root that is %s: %s", r.Root.Kind, replay.Printable(r.Root.Name))
	}
	if r.Reason != "" {
		fmt.Fprintf(&b, ": %s", replay.Printable(r.Reason))
	}
	b.WriteByte('\n')
	if r.Hint != "" {
		fmt.Fprintf(&b, "hint: %s\n", r.Hint)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeCompared shows the pairs that differ.
func writeCompared(b *strings.Builder, width int, compared []Comparison) {
	for _, c := range compared {
		if c.Want != c.Got {
			fmt.Fprintf(b, "%*s%s: want %s\n", width+8, "", replay.Printable(c.What), replay.Printable(c.Want))
			fmt.Fprintf(b, "%*s%s  got  %s\n", width+8, "", strings.Repeat(" ", utf8.RuneCountInString(c.What)), replay.Printable(c.Got))
		}
	}
}

func section(b *strings.Builder, title string, lines []Statement) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "  - %s (%s)\n", replay.Printable(l.Text), l.mark())
	}
}

// mark is a statement's code, and what it means for the verdict.
func (s Statement) mark() string {
	switch {
	case s.Stands:
		return s.Code + ", in the way"
	case s.Waived:
		return s.Code + ", waived"
	}
	return s.Code
}
